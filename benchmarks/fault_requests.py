"""Small jobs of every kind for benchmarks/faults.py: pruned, quantised, both, and exports of those."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests import tiny_models

RECIPES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("2:4", {"sparsity": 0.5, "pattern": "2:4"}, "dense"),
    ("4 bit", {"bits": 4, "group_size": 32}, "gptq"),
    ("4 bit packed", {"bits": 4, "group_size": 32, "symmetric": True}, "compressed-tensors"),
    ("2:4 + 4 bit", {"sparsity": 0.5, "pattern": "2:4", "bits": 4, "group_size": 32}, "sparse-packed"),
)
EXPORTS = ("sparse-packed", "dense")  # of the first two kinds
EXPORT_EVERY = 5


@dataclass(frozen=True)
class Asked:
    """One request. Args: parent: of an export, the index of the request whose job it exports."""

    kind: str
    body: dict[str, Any] = field(repr=False)
    parent: int | None = None


def requests(count: int, folder: Path, nsamples: int) -> list[Asked]:
    """`count` requests, each with an answer of its own; every fifth, and the last, is an export.

    Args: folder: for the model and its text. nsamples: of the calibration; a hundred keep a processor busy for seconds.
    """
    model = tiny_models.save(folder / "model", "llama-deep")
    text = folder / "text.txt"
    text.write_text(tiny_models.text(20_000))
    asked: list[Asked] = []
    for index in range(count):
        if index % EXPORT_EVERY == EXPORT_EVERY - 1 or index == count - 1:
            parent = index - index % EXPORT_EVERY + (index // EXPORT_EVERY) % len(EXPORTS)
            asked.append(Asked("export", {"output": {"format": EXPORTS[(index // EXPORT_EVERY) % len(EXPORTS)]}}, parent))
            continue
        kind, recipe, output = RECIPES[index % EXPORT_EVERY]
        body = {
            "model": str(model),
            "recipe": recipe,
            "calibration": {"source": str(text), "nsamples": nsamples, "seqlen": 64, "seed": index},
            "evaluation": {"sources": [str(text)], "windows": 8, "seqlen": 64},
            "output": {"format": output},
        }
        asked.append(Asked(kind, body))
    return asked


def later(asked: Sequence[Asked], first: int) -> list[Asked]:
    """The same requests once more, numbered from `first`."""
    return [each if each.parent is None else replace(each, parent=first + each.parent) for each in asked]
