"""Results that another job will need again, each kept in a file that says what it depends on and what it holds.

A file is found by the hash of its key. It is written under another name and renamed, so that it is there whole or not at all,
and its SHA-256 is compared whenever it is read: a damaged one is thrown away, never used. Nothing here fails a job.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from compression.events import Note, OnEvent, ignore_events

Key = Mapping[str, str]

_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}
_TENSOR = "tensor"


class Kept:
    """The kept results of one folder.

    Args:
        folder: made with the first result; None: nothing is kept, and nothing found.
    Attributes:
        reused: what was found here, in words, in order; not what this very object had kept.
    """

    def __init__(self, folder: Path | None = None, on_event: OnEvent = ignore_events) -> None:
        self._folder, self._on_event = folder, on_event
        self.reused: list[str] = []
        self._own: set[Path] = set()

    def load(self, what: str, key: Key) -> tuple[Tensor, dict[str, str]] | None:
        """A tensor, mapped from its file, and the facts kept with it; None where there is none for this very key.

        Args:
            what: in words, for the report.
            key: everything that the result depends on, by name.
        """
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            found = _read(path, key)
            os.utime(path)  # the least recently used go first
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            self._on_event(Note(level="warning", message=f"{what}: what an earlier job kept is not used: {error}"))
            path.unlink(missing_ok=True)
            return None
        if path not in self._own and what not in self.reused:
            self.reused.append(what)
            self._on_event(Note(message=f"{what}: reused from an earlier job"))
        return found

    def has(self, key: Key) -> bool:
        """Whether there is one for this very key; it has not been looked at."""
        path = self._path(key)
        return path is not None and path.is_file()

    def keep(self, what: str, key: Key, tensor: Tensor, facts: Mapping[str, str] | None = None) -> None:
        """Write a result, if the disk has room for it twice. Args: tensor: with at least one dimension."""
        path = self._path(key)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            size_bytes, free_bytes = tensor.nbytes, shutil.disk_usage(path.parent).free
            if free_bytes < 2 * size_bytes:
                raise OSError(f"it takes {size_bytes} bytes, and {free_bytes} are free")
            _write(path, key, tensor, dict(facts or {}))
            self._own.add(path)
        except OSError as error:
            self._on_event(Note(level="warning", message=f"{what}: not kept for later jobs: {error}"))

    def _path(self, key: Key) -> Path | None:
        return self._folder and self._folder / f"{hashlib.sha256(_words(key).encode()).hexdigest()}.safetensors"


def _words(words: Mapping[str, str]) -> str:
    return json.dumps(dict(words), sort_keys=True)


def _read(path: Path, key: Key) -> tuple[Tensor, dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        metadata, tensor = file.metadata(), file.get_tensor(_TENSOR)
    facts = json.loads(metadata["facts"])
    if metadata["key"] != _words(key) or metadata["sha256"] != _digest(key, facts, tensor):
        raise ValueError(f"{path.name} is damaged")
    return tensor, facts


def _write(path: Path, key: Key, tensor: Tensor, facts: dict[str, str]) -> None:
    """By hand, row by row: safetensors itself would copy a tensor that lies in a mapped file to memory."""
    metadata = {"key": _words(key), "facts": _words(facts), "sha256": _digest(key, facts, tensor)}
    entry = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [0, tensor.nbytes]}
    header = json.dumps({"__metadata__": metadata, _TENSOR: entry}).encode()
    header += b" " * (-len(header) % 8)
    descriptor, partial = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for row in _rows(tensor):
                file.write(row)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _digest(key: Key, facts: Mapping[str, str], tensor: Tensor) -> str:
    whole = hashlib.sha256(f"{_words(key)}{_words(facts)}{tensor.dtype}{tuple(tensor.shape)}".encode())
    for row in _rows(tensor):
        whole.update(row)
    return whole.hexdigest()


def _rows(tensor: Tensor) -> Iterator[memoryview]:
    for row in tensor:
        yield row.contiguous().view(torch.uint8).numpy().data
