"""Labelled texts for a classifier: a .jsonl file with {"text": ..., "label": ...} a line, and the accuracy on them.

A label is its number or its name in config.json. Texts are cut at the model's positions, as its tokenizer cuts them.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compression.documents import refusals
from compression.errors import CalibrationError
from compression.report import AccuracyResult
from compression.statistics import mean_and_error

MAX_TEXTS = 65_536

Choices = tuple[int, int]  # the labels that dense and compressed model give one text


@dataclass(frozen=True)
class LabelledTexts:
    """Texts by length, shortest first; what is of one length goes through the model together.

    Args:
        batches: token ids (W, L), int64.
        labels: of all batches one after the other.
        digest: SHA-256 of the file.
    """

    source: str
    batches: tuple[Tensor, ...]
    labels: tuple[int, ...]
    digest: str


def read_labelled(
    path: Path, source: str, tokenizer: PreTrainedTokenizerBase, names: Sequence[str], max_positions: int
) -> LabelledTexts:
    """Raises: CalibrationError: not such a file, naming the line; or it holds none, or more than MAX_TEXTS."""
    by_length: dict[int, list[tuple[list[int], int]]] = {}
    count = 0
    with refusals(source):
        for number, (text, label) in _entries(path, source, names):
            count += 1
            if count > MAX_TEXTS:
                raise CalibrationError(f"{source}: holds more than {MAX_TEXTS} texts; give fewer")
            ids: list[int] = tokenizer(text, truncation=True, max_length=max_positions)["input_ids"]
            if not ids:
                raise CalibrationError(f"{source}: line {number}: the text has no tokens")
            by_length.setdefault(len(ids), []).append((ids, label))
        if not count:
            raise CalibrationError(f"{source}: holds no labelled text")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    groups = [by_length[length] for length in sorted(by_length)]
    batches = tuple(torch.tensor([ids for ids, _ in group], dtype=torch.long) for group in groups)
    return LabelledTexts(source, batches, tuple(label for group in groups for _, label in group), digest)


def summarise_choices(texts: LabelledTexts, choices: Sequence[Choices]) -> AccuracyResult:
    """Shares and their standard errors over texts; of the loss, paired. Args: choices: in the order of the batches."""
    dense = [float(chosen == label) for (chosen, _), label in zip(choices, texts.labels, strict=True)]
    compressed = [float(chosen == label) for (_, chosen), label in zip(choices, texts.labels, strict=True)]
    pairs = {
        "dense": mean_and_error(dense),
        "compressed": mean_and_error(compressed),
        "loss": mean_and_error([d - c for d, c in zip(dense, compressed, strict=True)]),
        "agreement": mean_and_error([float(d == c) for d, c in choices]),
    }
    figures = {name: value for name, (value, _) in pairs.items()}
    errors = {f"{name}_standard_error": error for name, (_, error) in pairs.items()}
    return AccuracyResult.model_validate(
        {"source": texts.source, "texts": len(choices), "digest": texts.digest, **figures, **errors}
    )


def _entries(path: Path, source: str, names: Sequence[str]) -> Iterator[tuple[int, tuple[str, int]]]:
    """Text and label of every line that is not blank, by its number from 1."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _entry(line, f"{source}: line {number}", names)


def _entry(line: bytes, where: str, names: Sequence[str]) -> tuple[str, int]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"{where} is not JSON ({error})") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise CalibrationError(f'{where} is no object with a string "text"')
    label = entry.get("label")
    if isinstance(label, str) and label in names:
        return entry["text"], names.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(names):
        return entry["text"], label
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    raise CalibrationError(f"{where}: label {label!r} is none of 0 to {len(names) - 1} or {shown}")
