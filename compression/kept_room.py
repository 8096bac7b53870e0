"""How much room kept results may take: what was used least recently goes first. Torch-free.

The folders may belong to runners that somebody has taken over. So nothing in them is followed: each is opened once, as a
folder and no link, and everything happens relative to that.
"""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

RESULTS_FOLDER = "results"  # within a cache folder
DATABASES_FOLDER = "databases"  # beside it: model databases, whose files lie in folders of their own
DEEPEST = 4  # folders within each other there
_BLOCK_BYTES = 512  # in which the system counts


@dataclass(frozen=True, order=True)
class _File:
    used_at: float
    size_bytes: int
    folder: Path
    within: tuple[str, ...]
    name: str


def prune(folders: Iterable[Path], limit_bytes: int, trees: Iterable[Path] = ()) -> int:
    """Remove files until all folders together hold no more than `limit_bytes`. Who has a removed file open keeps it.

    What lies there and is no file was put there by nobody of ours, and goes as well.

    Args: trees: folders whose files lie in folders of their own.
    Returns: how many files were removed.
    """
    found = sorted(
        file for places, deepest in ((folders, 0), (trees, DEEPEST)) for place in places for file in _files(place, (), deepest)
    )
    excess, removed = sum(file.size_bytes for file in found) - limit_bytes, 0
    for file in found:
        if excess <= 0:
            break
        with suppress(OSError), _opened(file.folder, file.within) as place:
            os.unlink(file.name, dir_fd=place)
            excess, removed = excess - file.size_bytes, removed + 1
    return removed


def _files(folder: Path, within: tuple[str, ...], deepest: int) -> list[_File]:
    files: list[_File] = []
    with suppress(OSError), _opened(folder, within) as place, os.scandir(place) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and len(within) < deepest:
                files += _files(folder, (*within, entry.name), deepest)
                continue
            if not entry.is_file(follow_symlinks=False):
                _remove(entry.name, place)
                continue
            with suppress(OSError):  # somebody else has just removed it
                found = entry.stat(follow_symlinks=False)
                used_at = min(found.st_mtime, time.time())  # its owner may have set it to any time
                files.append(_File(used_at, found.st_blocks * _BLOCK_BYTES, folder, within, entry.name))
    return files


def _remove(name: str, place: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=place)
        return
    shutil.rmtree(name, ignore_errors=True, dir_fd=place)


@contextmanager
def _opened(folder: Path, within: tuple[str, ...]) -> Iterator[int]:
    """Its descriptor, one folder after the other. Raises: OSError: one of them is a link, or no folder."""
    how = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    with ExitStack() as opened:
        place = os.open(folder, how)
        opened.callback(os.close, place)
        for name in within:
            place = os.open(name, how, dir_fd=place)
            opened.callback(os.close, place)
        yield place
