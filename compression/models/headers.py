"""Reading safetensors headers without torch, and refusing files that lie about themselves.

Layout: 8 bytes little-endian header length, that many bytes of JSON, then the tensors' bytes without gaps.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from compression.errors import UnsupportedModel

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # the format's own limit, and enough for an index
MAX_TENSORS = 500_000  # of a whole checkpoint; DeepSeek-V3 has 91,000
MAX_DIMENSIONS = 8
MAX_NAME = 512  # characters
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
DAMAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)  # what reading untrusted JSON may raise
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
    weight_map = _weight_map(folder)
    files = sorted(set(weight_map.values())) if weight_map else [_single_file(folder)]
    return joined((read_header(folder / file) for file in files), weight_map)


def joined(files: Iterable[list[TensorInfo]], weight_map: Mapping[str, str] | None) -> dict[str, TensorInfo]:
    """The tensors of all files by name.

    Args: weight_map: an index's file name by tensor name; None without one.
    Raises: UnsupportedModel: a tensor is in two files, or not where the index says.
    """
    tensors: dict[str, TensorInfo] = {}
    for info in chain.from_iterable(files):
        if info.name in tensors:
            raise UnsupportedModel(f"tensor {info.name!r} is in both {tensors[info.name].file.name} and {info.file.name}")
        tensors[info.name] = info
        if len(tensors) > MAX_TENSORS:
            raise UnsupportedModel(f"the checkpoint holds more than {MAX_TENSORS} tensors")
    for name, file in (weight_map or {}).items():
        if name not in tensors or tensors[name].file.name != file:
            raise UnsupportedModel(f"{INDEX_FILE} says that tensor {name!r} is in {file}, which does not hold it")
    return tensors


def read_header(file: Path) -> list[TensorInfo]:
    """The tensors of one file, after checking that their extents tile the file exactly."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        raw = stream.read(header_length(file, stream.read(LENGTH_BYTES), size))
    return parse_header(file, raw, size)


def header_length(file: Path, start: bytes, size: int) -> int:
    """Bytes of the JSON that follows a file's first 8. Raises: UnsupportedModel: it does not fit a file of `size` bytes."""
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if size < LENGTH_BYTES or not 2 <= length <= min(MAX_HEADER_BYTES, size - LENGTH_BYTES):
        raise UnsupportedModel(f"{file.name}: header length {length} does not fit a file of {size} bytes; truncated?")
    return length


def parse_header(file: Path, raw: bytes, size: int) -> list[TensorInfo]:
    """The tensors that a header describes. Args: raw: its JSON. size: of the whole file, which they must tile.

    Raises: UnsupportedModel.
    """
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
        if len(header) > MAX_TENSORS:
            raise ValueError(f"more than {MAX_TENSORS} tensors")
        _check_metadata(header.get("__metadata__", {}))
        entries = [_entry(name, body, file) for name, body in header.items() if name != "__metadata__"]
    except DAMAGE as error:
        raise UnsupportedModel(f"{file.name}: damaged header ({error})") from error
    _check_extents(file, sorted((begin, end, info.name) for info, begin, end in entries), size - LENGTH_BYTES - len(raw))
    return [info for info, _, _ in entries]


def _entry(name: str, body: dict[str, Any], file: Path) -> tuple[TensorInfo, int, int]:
    dtype, shape = body["dtype"], _integers(body["shape"])
    begin, end = _integers(body["data_offsets"])
    if len(name) > MAX_NAME or not name.isprintable():
        raise ValueError(f"{ascii(name)[:80]} is no name of a tensor")
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"tensor {name!r} has {len(shape)} dimensions, more than {MAX_DIMENSIONS}")
    if dtype not in DTYPE_BYTES:
        raise UnsupportedModel(f"{file.name}: tensor {name!r} has dtype {dtype!r}; the weights must be plain floating point")
    expected = math.prod(shape) * DTYPE_BYTES[dtype]
    if any(n < 0 for n in shape) or end - begin != expected:
        raise UnsupportedModel(f"{file.name}: tensor {name!r} claims {end - begin} bytes, its shape {shape} needs {expected}")
    return TensorInfo(name, file, dtype, shape, expected), begin, end


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or any(not isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__ is not an object of strings")


def _integers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or any(type(value) is not int for value in values):
        raise ValueError(f"{values!r:.80} is no list of integers")
    return tuple(values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON keeps the last of equal keys without a word; two readers could then see two models."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _check_extents(file: Path, extents: list[tuple[int, int, str]], data_bytes: int) -> None:
    position = 0
    for begin, end, name in extents:
        if begin != position:
            raise UnsupportedModel(f"{file.name}: tensor {name!r} starts at byte {begin}, expected {position}")
        position = end
    if position != data_bytes:
        raise UnsupportedModel(
            f"{file.name}: holds {data_bytes} bytes of tensors, its header describes {position}; truncated?"
        )


def _single_file(folder: Path) -> str:
    if (folder / SINGLE_FILE).is_file():
        return SINGLE_FILE
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    if pickled:
        raise UnsupportedModel(f"only pickled weights ({pickled[0]}), which can run code when opened; convert to safetensors")
    raise UnsupportedModel(f"no {SINGLE_FILE} and no {INDEX_FILE} in the model folder")


def _weight_map(folder: Path) -> dict[str, str] | None:
    """The index's file name by tensor name, each a plain name of a file that is there; None without an index."""
    index = folder / INDEX_FILE
    if not index.is_file():
        return None
    if index.stat().st_size > MAX_HEADER_BYTES:
        raise UnsupportedModel(f"{index.name} is longer than {MAX_HEADER_BYTES} bytes")
    try:
        text = index.read_text("utf-8")
    except ValueError as error:
        raise UnsupportedModel(f"{index.name}: damaged index ({error})") from error
    weight_map = parse_index(text)
    present = {path.name for path in folder.iterdir() if path.is_file()}
    for name in weight_map.values():
        if name not in present:
            raise UnsupportedModel(f"{index.name} names {name!r}, which is not there")
    return weight_map


def parse_index(text: str | bytes) -> dict[str, str]:
    """The file name by tensor name that an index gives. Raises: UnsupportedModel: damaged, or it names no plain names."""
    try:
        weight_map = dict(json.loads(text, object_pairs_hook=_unique)["weight_map"])
    except DAMAGE as error:
        raise UnsupportedModel(f"{INDEX_FILE}: damaged index ({error})") from error
    if not weight_map:
        raise UnsupportedModel(f"{INDEX_FILE} names no tensors")
    for name in weight_map.values():
        if not isinstance(name, str) or name != os.path.basename(name) or "\\" in name:  # noqa: PTH119  a string, not a path
            raise UnsupportedModel(f"{INDEX_FILE} names {name!r}, which is outside the model folder")
    return weight_map
