"""What finished blocks are called: files of `blocks/` in a pass's work folder. Torch-free, so that others may move them."""

from pathlib import Path

BLOCKS_FOLDER = "blocks"
FINGERPRINT_FILE = "fingerprint.json"


def block_path(folder: Path, block: int) -> Path:
    """The file of a block, counted from 0."""
    return folder / f"block-{block:05d}.safetensors"
