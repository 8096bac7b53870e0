"""Loads a model whose blocks are not all alike by the file that lies beside its weights, as a user would. In float32."""

import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import outcome  # type: ignore[import-not-found] # beside this file
import torch
from torch import Tensor


def load(folder: Path, device: str) -> Any:
    sys.dont_write_bytecode = True  # nothing is added to the folder
    sys.path.insert(0, str(folder))
    model = import_module("load_shrunk").load(folder, dtype=torch.float32, device=device)

    def outputs(ids: Tensor) -> Tensor:
        found = model(input_ids=ids.to(device))
        return found.logits if hasattr(found, "logits") else found.last_hidden_state  # type: ignore[no-any-return]

    return outputs


if __name__ == "__main__":
    outcome.run(f"load_shrunk.py beside the weights, with transformers {version('transformers')}", load)
