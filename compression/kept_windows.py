"""Token windows, kept for other jobs with the same tokenizer, text and protocol: to encode a large text takes seconds, and 120
bytes of memory for each of its bytes."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from compression import environment
from compression.calibration import TextReader, Windows
from compression.corpora import Role
from compression.kept import Kept

WEIGHTS = (".safetensors", ".gguf")


class KeptWindows:
    """A reader of texts that looks first whether the very windows were kept.

    Args: tokenizer: the folder that its tokenizer was loaded from.
    """

    def __init__(self, reader: TextReader, kept: Kept, tokenizer: Path) -> None:
        self._reader, self._kept, self._tokenizer = reader, kept, tokenizer

    def calibration(self, source: str, nsamples: int, seqlen: int, seed: int) -> Windows:
        """As `TextReader.calibration`."""
        asked = f"{nsamples} of {seqlen} tokens, seed {seed}"
        return self._windows(source, "calibration", asked, lambda: self._reader.calibration(source, nsamples, seqlen, seed))

    def evaluation(self, source: str, windows: int | None, seqlen: int) -> Windows:
        """As `TextReader.evaluation`."""
        asked = f"{windows} of {seqlen} tokens"
        return self._windows(source, "evaluation", asked, lambda: self._reader.evaluation(source, windows, seqlen))

    def _windows(self, source: str, role: Role, asked: str, make: Callable[[], Windows]) -> Windows:
        text = self._reader.depends_on(source, role)
        if text is None:
            return make()
        what = f"{role} windows of {source}"
        key = {
            "kind": f"{role} windows",
            "asked": asked,
            "tokenizer": _digest(self._tokenizer),
            **text,
            **environment.versions(),
        }
        found = self._kept.load(what, key)
        if found is not None:
            ids_WL, facts = found
            in_text = facts.get("in_text")
            return Windows(ids_WL, source, facts["protocol"], None if in_text is None else int(in_text))
        made = make()
        facts = {"protocol": made.protocol} | ({} if made.in_text is None else {"in_text": str(made.in_text)})
        self._kept.keep(what, key, made.ids_WL, facts)
        return made


def _digest(folder: Path) -> str:
    """SHA-256 over all files of a model's folder but its weights: which of them a tokenizer reads, its class decides."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix not in WEIGHTS:
            with path.open("rb") as file:
                whole.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
