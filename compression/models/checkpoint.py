"""A local checkpoint folder: config, tensors by name, digest."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from compression.errors import UnsupportedModel
from compression.families import Architecture, read_architecture
from compression.models.headers import TensorInfo, read_folder
from compression.models.refusing import refusing
from compression.models.stored_names import stored_name
from compression.models.untrusted import CONFIG, read_object

TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Checkpoint:
    """Reads single tensors from safetensors shards; nothing is kept in memory.

    Raises: UnsupportedModel: on construction, for whatever makes the folder unfit, before any weight is read.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UnsupportedModel(f"{folder} is not a folder")
        self.folder = folder
        self.config: dict[str, Any] = read_object(folder / CONFIG)
        self.architecture: Architecture = read_architecture(self.config)
        self.tensors: Mapping[str, TensorInfo] = read_folder(folder)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Copies of the named tensors, in their storage dtype."""
        return read_tensors(self.tensors, names)

    def stored_name(self, name: str) -> str | None:
        """The checkpoint's name of a model parameter; None: not stored under a name of its own."""
        return stored_name(self.tensors, self.architecture, name)

    def dtype_of(self, name: str) -> torch.dtype:
        """Raises: UnsupportedModel: no floating dtype, which only what is not a weight may have."""
        dtype = self.tensors[name].dtype
        if dtype not in TORCH_DTYPES:
            raise UnsupportedModel(f"tensor {name} holds {dtype}, not floating point numbers")
        return TORCH_DTYPES[dtype]

    @property
    def main_dtype(self) -> str:
        """The floating dtype that holds most bytes, as torch spells it."""
        total: dict[str, int] = {}
        for info in self.tensors.values():
            if info.dtype in TORCH_DTYPES:  # old checkpoints keep masks, too
                total[info.dtype] = total.get(info.dtype, 0) + info.size_bytes
        return str(TORCH_DTYPES.get(max(total, key=lambda dtype: total[dtype], default=""), "unknown")).removeprefix("torch.")

    @property
    def size_bytes(self) -> int:
        return sum(info.size_bytes for info in self.tensors.values())

    @property
    def parameters(self) -> int:
        """Stored numbers, tied ones once."""
        return sum(math.prod(info.shape) for info in self.tensors.values())

    def digest(self) -> str:
        """SHA-256 over config.json and the weight files, in name order."""
        return digest(self.folder, {info.file for info in self.tensors.values()})


def opened(folder: Path) -> Checkpoint:
    """The checkpoint of a folder whose headers were read once already, for readers of one matrix after the other.

    A model of many experts has tens of thousands of matrices, and reading its headers takes a second.
    """
    files = [folder / CONFIG, *folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]
    return _opened(folder, tuple(sorted((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)))


@lru_cache(maxsize=1)
def _opened(folder: Path, _: tuple[tuple[str, int, int], ...]) -> Checkpoint:
    return Checkpoint(folder)


def digest(folder: Path, files: Iterable[Path]) -> str:
    """SHA-256 over config.json and the weight files, in name order."""
    whole = hashlib.sha256()
    for path in [folder / CONFIG, *sorted(files)]:
        with path.open("rb") as stream:
            whole.update(f"{path.name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def read_tensors(tensors: Mapping[str, TensorInfo], names: Iterable[str]) -> dict[str, Tensor]:
    """Copies of the named tensors of a folder's shards, each shard opened once."""
    by_file: dict[Path, list[str]] = {}
    for name in names:
        by_file.setdefault(tensors[name].file, []).append(name)
    found: dict[str, Tensor] = {}
    for file, wanted in by_file.items():
        with refusing(f"{file.name} cannot be read"), safe_open(file, framework="pt") as shard:
            found.update((name, shard.get_tensor(name)) for name in wanted)
    return found
