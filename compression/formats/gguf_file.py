"""Reading a GGUF file's tensor table by ourselves, bounds first: the file may come from anywhere.

Layout (version 3, little endian): magic, version u32, tensors u64, metadata u64; the metadata (name, type u32, value), the
tensor table (name, dimensions u32, extents u64 fastest first, type u32, offset u64), padding to the alignment, the data.
Metadata is walked over; what a model is made of stands in the config.json beside the file.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from gguf import GGMLQuantizationType as Type
from torch import Tensor

from compression.errors import UnsupportedModel
from compression.formats.gguf_blocks import BLOCK_BYTES, PLAIN_DTYPES, decode, row_bytes
from compression.formats.rules_gguf import BLOCK

MAGIC = b"GGUF"
VERSION = 3
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 4096
VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # metadata types of a fixed size
STRING, ARRAY = 8, 9
ALIGNMENT_KEY, DEFAULT_ALIGNMENT = "general.alignment", 32


@dataclass(frozen=True)
class GgufTensor:
    """One tensor: its type, its shape as torch orders it, and where its bytes are in the file."""

    kind: Type
    shape: tuple[int, ...]
    begin: int
    size_bytes: int


@dataclass(frozen=True)
class GgufFile:
    """The checked table of a file."""

    path: Path
    tensors: dict[str, GgufTensor]

    def read(self, name: str) -> Tensor | None:
        """Values of a tensor (float32 where it is block-wise); None where there is none of this name."""
        if name not in self.tensors:
            return None
        found = self.tensors[name]
        with self.path.open("rb") as stream:
            stream.seek(found.begin)
            data = bytearray(stream.read(found.size_bytes))
        rows = (*found.shape[:-1], row_bytes(found.shape[-1], found.kind))
        return decode(torch.frombuffer(data, dtype=torch.uint8).view(rows), found.kind)


def open_gguf(path: Path) -> GgufFile:
    """Read the table of a file; kept for the next call while the file stays the same.

    Raises: UnsupportedModel: not there, truncated, or a table that lies.
    """
    if not path.is_file():
        raise UnsupportedModel(f"{path.name}: there is no such file")
    stat = path.stat()
    return _open(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1)
def _open(path: Path, size: int, _: int) -> GgufFile:
    if size == 0:
        raise UnsupportedModel(f"{path.name}: the file is empty")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return GgufFile(path, _table(_Cursor(data, path.name)))


class _Cursor:
    """A position in the file that never passes its end."""

    def __init__(self, data: mmap.mmap, file: str) -> None:
        self.data, self.file, self.position = data, file, 0

    def refuse(self, reason: str) -> UnsupportedModel:
        return UnsupportedModel(f"{self.file}: {reason}")

    def skip(self, count: int) -> int:
        """Pass over so many bytes; gives where they began."""
        begin = self.position
        if count > len(self.data) - begin:
            raise self.refuse(f"ends at byte {len(self.data)} where its header goes on; truncated?")
        self.position += count
        return begin

    def number(self, form: str) -> int:
        """One little-endian integer: `I` of 4 bytes or `Q` of 8."""
        begin = self.skip(struct.calcsize(f"<{form}"))
        return int(struct.unpack_from(f"<{form}", self.data, begin)[0])

    def name(self) -> str:
        length = self.number("Q")
        if length > MAX_NAME_BYTES:
            raise self.refuse(f"a name of {length} bytes")
        begin = self.skip(length)
        try:
            return bytes(self.data[begin : self.position]).decode()
        except UnicodeDecodeError as error:
            raise self.refuse(f"a name is not UTF-8 ({error})") from error


def _table(cursor: _Cursor) -> dict[str, GgufTensor]:
    if bytes(cursor.data[:4]) != MAGIC:
        raise cursor.refuse("no GGUF file")
    cursor.skip(len(MAGIC))
    version = cursor.number("I")
    if version != VERSION:
        raise cursor.refuse(f"GGUF version {version}, and this reader knows {VERSION}")
    tensors, entries = cursor.number("Q"), cursor.number("Q")
    alignment = DEFAULT_ALIGNMENT
    for _ in range(entries):
        alignment = _skip_entry(cursor) or alignment
    headers = [_header(cursor) for _ in range(tensors)]
    start = math.ceil(cursor.position / alignment) * alignment
    return _checked(cursor, headers, start, alignment)


def _skip_entry(cursor: _Cursor) -> int | None:
    """Walk over one entry of the metadata; gives the alignment if this is the one that says it."""
    key, kind = cursor.name(), cursor.number("I")
    if key == ALIGNMENT_KEY and VALUE_BYTES.get(kind) == 4:
        alignment = cursor.number("I")
        if not 1 <= alignment <= 2**16 or alignment & (alignment - 1):
            raise cursor.refuse(f"an alignment of {alignment}")
        return alignment
    if kind == ARRAY:
        kind, count = cursor.number("I"), cursor.number("Q")
    else:
        count = 1
    if kind in VALUE_BYTES:
        cursor.skip(VALUE_BYTES[kind] * count)
    elif kind == STRING:
        for _ in range(count):
            cursor.skip(cursor.number("Q"))
    else:
        raise cursor.refuse(f"metadata {key!r} has the unknown type {kind}")
    return None


def _header(cursor: _Cursor) -> tuple[str, GgufTensor]:
    """One row of the tensor table, its `begin` still relative to the data."""
    name, dimensions = cursor.name(), cursor.number("I")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise cursor.refuse(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))[::-1]
    number, begin = cursor.number("I"), cursor.number("Q")
    kind = next((kind for kind in (*PLAIN_DTYPES, *BLOCK_BYTES) if kind == number), None)
    if kind is None:
        raise cursor.refuse(f"tensor {name!r} has the type {number}, which this reader does not know")
    if min(shape) < 1 or (kind in BLOCK_BYTES and shape[-1] % BLOCK):
        raise cursor.refuse(f"tensor {name!r} cannot have the shape {shape}")
    return name, GgufTensor(kind, shape, begin, math.prod(shape[:-1]) * row_bytes(shape[-1], kind))


def _checked(cursor: _Cursor, headers: list[tuple[str, GgufTensor]], start: int, alignment: int) -> dict[str, GgufTensor]:
    """Tensors with their place in the file: each name once, aligned, one after the other, and no byte beyond the end."""
    tensors: dict[str, GgufTensor] = {}
    end = 0
    for name, header in sorted(headers, key=lambda entry: entry[1].begin):
        if name in tensors:
            raise cursor.refuse(f"tensor {name!r} stands twice")
        if header.begin % alignment or header.begin < end:
            raise cursor.refuse(f"tensor {name!r} begins at byte {header.begin} of the data, inside another or unaligned")
        end = header.begin + header.size_bytes
        if start + end > len(cursor.data):
            raise cursor.refuse(f"tensor {name!r} ends at byte {start + end} of {len(cursor.data)}; truncated?")
        tensors[name] = GgufTensor(header.kind, header.shape, start + header.begin, header.size_bytes)
    return tensors
