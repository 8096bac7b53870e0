"""transformers' reader of GGUF files: `gguf` artifacts. It de-quantises everything, so its logits are exact."""

from importlib.metadata import version

import torch
import transformers
from causal_lm import answer
from comparison import arguments

folder, comparison = arguments()
[file] = folder.glob("*.gguf")
model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float32)
answer(comparison, "transformers' GGUF reader", f"{transformers.__version__} (gguf {version('gguf')})", model)
