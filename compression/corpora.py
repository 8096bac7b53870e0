"""The field's benchmark texts by name, and how a text is made from their rows. Torch-free.

The protocol is the one of the code published with SparseGPT (arXiv 2301.00774) and OPTQ (arXiv 2210.17323, its newer
evaluation), so that figures can be held against the literature's: docs/evaluation.md says it in words.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Role = Literal["calibration", "evaluation"]
DEFAULT_WINDOWS = 20  # of a text that is no benchmark


@dataclass(frozen=True)
class Corpus:
    """How the rows of one benchmark become a text.

    Args:
        separator: stands between two rows.
        documents: the evaluation reads so many rows from the start; None: all.
        windows: and so many windows of them at most; None: all.
        draws_documents: calibration windows are cut from randomly drawn rows; otherwise from the rows joined.
    """

    title: str
    separator: str
    documents: int | None = None
    windows: int | None = None
    draws_documents: bool = False


CORPORA: dict[str, Corpus] = {
    "wikitext2": Corpus("WikiText-2 raw", "\n\n"),
    "ptb": Corpus("Penn Treebank", " "),
    "c4": Corpus("C4, English", " ", documents=1100, windows=256, draws_documents=True),
}

# A benchmark's file as it stands gives other tokens than its rows joined, and so another figure: it has its own name.
AS_IT_STANDS = {
    "wiki.test.raw": "wikitext2-file",
    "wiki.valid.raw": "wikitext2-file",
    "wiki.train.raw": "wikitext2-file",
    "ptb.test.txt": "ptb-file",
    "ptb.valid.txt": "ptb-file",
    "ptb.train.txt": "ptb-file",
}


class TextUse(NamedTuple):
    """A text and what it is for: a benchmark has other rows to calibrate on than to evaluate on."""

    source: str
    role: Role

    @property
    def key(self) -> str:
        """Under which name the caller hands over its file."""
        return text_key(self.source, self.role)


def text_key(source: str, role: Role) -> str:
    """`c4` -> `c4:calibration`; any other text is one file for both roles and keeps its name."""
    return f"{source}:{role}" if source in CORPORA else source


def text_uses(calibration: str | None, evaluation: tuple[str, ...]) -> tuple[TextUse, ...]:
    """Every file that is needed, each once, in a fixed order."""
    uses = [TextUse(calibration, "calibration")] if calibration is not None else []
    uses += [TextUse(source, "evaluation") for source in evaluation]
    return tuple({use.key: use for use in uses}.values())
