"""Loads a `gptq` artifact as a transformers user would, who has gptqmodel (and optimum) installed; or with gptqmodel alone.

Alone where transformers cannot: matrices of different bits or groups (it reads no `dynamic`), and GPT-2's Conv1D.
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

CONV1D = ("gpt2",)


def load(folder: Path, device: str) -> Any:
    torch._dynamo.config.disable = True  # compiling the kernel takes longer than all that it computes here
    config = json.loads((folder / "config.json").read_text("utf-8"))
    quantization = config["quantization_config"]
    is_mixed = any(not pattern.startswith("-:") for pattern in quantization.get("dynamic", {}))
    alone = is_mixed or config["model_type"] in CONV1D
    model = _gptqmodel(folder, device) if alone else _transformers(folder, device, quantization["bits"])
    return lambda ids: model(input_ids=ids.to(device), use_cache=False).logits


def _transformers(folder: Path, device: str, bits: int) -> Any:
    kernel = GPTQConfig(bits=bits, backend="torch")  # only the kernel is taken from here; the file says the rest
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, device_map=device, quantization_config=kernel, trust_remote_code=False
    ).eval()


def _gptqmodel(folder: Path, device: str) -> Any:
    from gptqmodel import BACKEND, GPTQModel  # its import alone takes seconds

    return GPTQModel.load(str(folder), device=device, dtype=torch.float16, backend=BACKEND.TORCH).model.eval()


if __name__ == "__main__":
    outcome.run(f"transformers {version('transformers')} with gptqmodel {version('gptqmodel')}", load)
