"""transformers with gptqmodel's CPU kernels: `gptq` artifacts.

The kernel named "torch" takes every shape and every number of bits. It de-quantises to float16, hence differences of about a
thousandth of the logits' spread.
"""

import json
import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # compiling the kernel costs more than one run of it gains

import gptqmodel
import torch
import transformers
from causal_lm import answer
from comparison import arguments

folder, comparison = arguments()
bits = json.loads((folder / "config.json").read_text("utf-8"))["quantization_config"]["bits"]
kernel = transformers.GPTQConfig(bits=bits, backend="torch")  # only the kernel is taken from here; the file says the rest
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=kernel)
answer(comparison, "gptqmodel", f"{gptqmodel.__version__} (transformers {transformers.__version__})", model)
