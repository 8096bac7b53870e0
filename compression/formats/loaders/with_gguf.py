"""Loads a `gguf` artifact with transformers' reader, which de-quantises everything, so that its logits are exact."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import outcome  # type: ignore[import-not-found] # beside this file
import torch
from transformers import AutoModelForCausalLM


def load(folder: Path, device: str) -> Any:
    [file] = folder.glob("*.gguf")
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float32).eval().to(device)
    return lambda ids: model(input_ids=ids.to(device), use_cache=False).logits


if __name__ == "__main__":
    outcome.run(f"transformers {version('transformers')} with gguf {version('gguf')}", load)
