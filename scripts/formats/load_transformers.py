"""transformers alone: `dense` artifacts."""

import torch
import transformers
from causal_lm import answer
from comparison import arguments

folder, comparison = arguments()
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
answer(comparison, "transformers", transformers.__version__, model)
