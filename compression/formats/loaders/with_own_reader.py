"""Loads an artifact with this project's own loader, for the format that no other software reads.

The one program here that imports the project: it stands two folders above.
"""

import sys
from pathlib import Path
from typing import Any

import outcome  # type: ignore[import-not-found] # beside this file
import torch

sys.path.append(str(Path(__file__).parents[3]))

from compression import __version__
from compression.formats.loading import load_as


def load(folder: Path, device: str) -> Any:
    model = load_as("sparse-packed", folder, dtype=torch.float32, device=device)
    return lambda ids: model(input_ids=ids.to(device), use_cache=False).logits


if __name__ == "__main__":
    outcome.run(f"scalpel {__version__} (its own loader)", load)
