"""transformers with compressed-tensors: `compressed-tensors` artifacts.

Symmetric files are opened the plain way: the layers stay packed until their first use. From 0.18 to at least 0.20,
compressed-tensors cannot set up packed zero points that way (it expects them unpacked and then refuses the file), so files
with zero points are unpacked while they are loaded.
"""

import json
from pathlib import Path
from typing import Any

import compressed_tensors
import torch
import transformers
from causal_lm import answer
from comparison import arguments


def has_zero_points(folder: Path) -> bool:
    """Whether any group of layers is asymmetric."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    groups = config["quantization_config"]["config_groups"].values()
    return any(not group["weights"].get("symmetric", True) for group in groups)


folder, comparison = arguments()
options: dict[str, Any] = {}
if has_zero_points(folder):
    options["quantization_config"] = transformers.CompressedTensorsConfig(dequantize=True)
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
version = f"{compressed_tensors.__version__} (transformers {transformers.__version__})"
answer(comparison, "compressed-tensors", version, model)
