"""Reading one matrix's tensors back from a written artifact, whatever its format calls them."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from compression.models.headers import read_folder


class StoredMatrix:
    """The tensors of one module, by their last name.

    Args: name: the module's name in the model; a checkpoint may leave leading parts of it out.
    """

    def __init__(self, folder: Path, name: str) -> None:
        found = read_folder(folder)
        prefixes = [f"{'.'.join(name.split('.')[k:])}." for k in range(name.count(".") + 1)]
        prefix = next(one for one in prefixes if any(stored.startswith(one) for stored in found))
        self.tensors: dict[str, Tensor] = {}
        for stored, info in found.items():
            if stored.startswith(prefix):
                with safe_open(info.file, framework="pt") as shard:
                    self.tensors[stored.removeprefix(prefix)] = shard.get_tensor(stored)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        self.quantization_config: dict[str, Any] = config.get("quantization_config", {})
