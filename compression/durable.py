"""Files that are there whole or not at all, and stay there when the power goes."""

import os
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file's contents; a reader sees the old ones or the new ones."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    sync_and_rename(partial, path)


def sync_and_rename(partial: Path, path: Path) -> None:
    """Give a file that was written under another name its own, once its contents are on disk."""
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)
