"""Loads a `compressed-tensors` artifact as a transformers user would, who has compressed-tensors installed.

The file itself says whether layers stay packed until their first use or are unpacked while they are loaded.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import outcome  # type: ignore[import-not-found] # beside this file
import torch
from transformers import AutoModelForCausalLM


def load(folder: Path, device: str) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval().to(device)
    return lambda ids: model(input_ids=ids.to(device), use_cache=False).logits


if __name__ == "__main__":
    outcome.run(f"transformers {version('transformers')} with compressed-tensors {version('compressed-tensors')}", load)
