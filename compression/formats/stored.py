"""Reading one matrix's tensors back from a written artifact, whatever its format calls them."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from compression.models.headers import read_folder


class StoredMatrix:
    """The tensors of one module by their last name, and what config.json says of them. Args: name: the module's, in full."""

    def __init__(self, folder: Path, name: str) -> None:
        self.tensors: dict[str, Tensor] = {}
        for stored, info in read_folder(folder).items():
            module, _, last = stored.rpartition(".")
            if module == name:
                with safe_open(info.file, framework="pt") as shard:
                    self.tensors[last] = shard.get_tensor(stored)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        self.quantization_config: dict[str, Any] = config["quantization_config"]
