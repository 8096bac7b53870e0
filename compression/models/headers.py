"""Reading safetensors headers without torch, and refusing files that lie about themselves.

Layout: 8 bytes little-endian header length, that many bytes of JSON, then the tensors' bytes without gaps.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.errors import UnsupportedModel

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor is and what it looks like, from its file's header alone."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


def read_folder(folder: Path) -> dict[str, TensorInfo]:
    """All tensors of a checkpoint folder by name.

    Raises: UnsupportedModel: no safetensors (pickled weights only, or nothing), an index that names files outside the folder
        or tensors that are not there, a truncated or lying header.
    """
    tensors: dict[str, TensorInfo] = {}
    for file in _weight_files(folder):
        for info in read_header(file):
            if info.name in tensors:
                raise UnsupportedModel(f"tensor {info.name} is in both {tensors[info.name].file.name} and {file.name}")
            tensors[info.name] = info
    return tensors


def read_header(file: Path) -> list[TensorInfo]:
    """The tensors of one file, after checking that their extents tile the file exactly."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise UnsupportedModel(f"{file.name}: header length {length} does not fit a file of {size} bytes; truncated?")
        raw = stream.read(length)
    try:
        header = json.loads(raw)
        entries = [_entry(name, body, file) for name, body in header.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnsupportedModel(f"{file.name}: damaged header ({error})") from error
    _check_extents(file, sorted((begin, end, info.name) for info, begin, end in entries), size - 8 - length)
    return [info for info, _, _ in entries]


def _entry(name: str, body: dict[str, Any], file: Path) -> tuple[TensorInfo, int, int]:
    dtype, shape = body["dtype"], tuple(int(n) for n in body["shape"])
    begin, end = (int(n) for n in body["data_offsets"])
    if dtype not in DTYPE_BYTES:
        raise UnsupportedModel(f"{file.name}: tensor {name} has dtype {dtype}; the weights must be plain floating point")
    expected = math.prod(shape) * DTYPE_BYTES[dtype]
    if any(n < 0 for n in shape) or end - begin != expected:
        raise UnsupportedModel(f"{file.name}: tensor {name} claims {end - begin} bytes, its shape {shape} needs {expected}")
    return TensorInfo(name, file, dtype, shape, expected), begin, end


def _check_extents(file: Path, extents: list[tuple[int, int, str]], data_bytes: int) -> None:
    position = 0
    for begin, end, name in extents:
        if begin != position:
            raise UnsupportedModel(f"{file.name}: tensor {name} starts at byte {begin}, expected {position}")
        position = end
    if position != data_bytes:
        raise UnsupportedModel(
            f"{file.name}: holds {data_bytes} bytes of tensors, its header describes {position}; truncated?"
        )


def _weight_files(folder: Path) -> list[Path]:
    index = folder / INDEX_FILE
    if index.is_file():
        return _indexed_files(folder, index)
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    if pickled:
        raise UnsupportedModel(f"only pickled weights ({pickled[0]}), which can run code when opened; convert to safetensors")
    raise UnsupportedModel(f"no {SINGLE_FILE} and no {INDEX_FILE} in the model folder")


def _indexed_files(folder: Path, index: Path) -> list[Path]:
    try:
        weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnsupportedModel(f"{index.name}: damaged index ({error})") from error
    for name in names:
        if name != os.path.basename(name) or name in ("", ".", "..") or "\\" in name:  # noqa: PTH119  a string, not a path
            raise UnsupportedModel(f"{index.name} names {name!r}, which is outside the model folder")
        if not (folder / name).is_file():
            raise UnsupportedModel(f"{index.name} names {name}, which is not there")
    return [folder / name for name in names]
