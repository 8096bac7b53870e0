"""The licence of a model, as its own card names it. Torch-free."""

import re
from pathlib import Path

CARD = "README.md"
MAX_CARD_BYTES = 65_536  # the metadata stands first
_METADATA = re.compile(r"---\r?\n(.*?)\r?\n---", re.DOTALL)
_LICENSE = re.compile(r"^license:[ \t]*[\"']?([a-z0-9][a-z0-9.+-]{0,63})[\"']?[ \t]*\r?$", re.MULTILINE)


def named_license(folder: Path) -> str | None:
    """The identifier in the metadata of a model's card. None: there is no card, or it names none, or more than one."""
    card = folder / CARD
    if not card.is_file():
        return None
    with card.open("rb") as stream:
        metadata = _METADATA.match(stream.read(MAX_CARD_BYTES).decode("utf-8", "replace"))
    found = _LICENSE.search(metadata[1]) if metadata else None
    return found[1] if found else None
