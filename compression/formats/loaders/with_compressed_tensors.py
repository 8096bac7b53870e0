"""Loads a `compressed-tensors` artifact as a transformers user would, who has compressed-tensors installed.

Symmetric files are opened the plain way: the layers stay packed until their first use. From 0.18 to at least 0.20,
compressed-tensors cannot set up packed zero points that way (it expects them unpacked and then refuses the file), so files
with zero points are unpacked while they are loaded.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import outcome  # type: ignore[import-not-found] # beside this file
import torch
from transformers import AutoModelForCausalLM, CompressedTensorsConfig


def load(folder: Path, device: str) -> Any:
    options = {"quantization_config": CompressedTensorsConfig(dequantize=True)} if has_zero_points(folder) else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False, **options)
    model.eval().to(device)
    return lambda ids: model(input_ids=ids.to(device), use_cache=False).logits


def has_zero_points(folder: Path) -> bool:
    """Whether any group of layers is asymmetric."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    groups = config["quantization_config"]["config_groups"].values()
    return any(not group["weights"].get("symmetric", True) for group in groups)


if __name__ == "__main__":
    outcome.run(f"transformers {version('transformers')} with compressed-tensors {version('compressed-tensors')}", load)
