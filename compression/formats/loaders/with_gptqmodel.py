"""Loads a `gptq` artifact as a transformers user would, who has gptqmodel (and optimum) installed.

The kernel named "torch" takes every shape and number of bits, on any device. It de-quantises to float16, hence differences of
about a thousandth of the logits' spread.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import outcome  # type: ignore[import-not-found] # beside this file
import torch
import torch._dynamo
from transformers import AutoModelForCausalLM, GPTQConfig


def load(folder: Path, device: str) -> Any:
    torch._dynamo.config.disable = True  # compiling the kernel takes longer than all that it computes here
    bits = json.loads((folder / "config.json").read_text("utf-8"))["quantization_config"]["bits"]
    kernel = GPTQConfig(bits=bits, backend="torch")  # only the kernel is taken from here; the file says the rest
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, device_map=device, quantization_config=kernel, trust_remote_code=False
    ).eval()
    return lambda ids: model(input_ids=ids.to(device), use_cache=False).logits


if __name__ == "__main__":
    outcome.run(f"transformers {version('transformers')} with gptqmodel {version('gptqmodel')}", load)
