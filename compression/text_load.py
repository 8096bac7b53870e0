"""How many windows of which length a request sends through the model, and how much text is read for them. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass

from compression.corpora import CORPORA, DEFAULT_WINDOWS, Role, text_key
from compression.families import Architecture
from compression.plan import length_within
from compression.protocol import Calibration, Evaluation

BYTES_PER_TOKEN = 4  # of English text; 4.6 with SmolLM2's tokenizer, 3.8 with Llama's
TEXT_BYTES: dict[tuple[str, Role], int] = {  # of the texts that have a name, as they are joined
    ("sotu", "calibration"): 11_328_664,
    ("sotu", "evaluation"): 857_581,
    ("wikitext2", "calibration"): 10_900_000,
    ("wikitext2", "evaluation"): 1_300_000,
    ("ptb", "calibration"): 5_100_000,
    ("ptb", "evaluation"): 450_000,
    ("c4", "calibration"): 0,  # single documents are drawn; the text is never encoded as a whole
    ("c4", "evaluation"): 2_400_000,
}


@dataclass(frozen=True)
class TextLoad:
    """What goes through the model.

    Args:
        calibration, evaluation: windows, those of all evaluation texts together.
        calibration_seqlen, evaluation_seqlen: tokens in a window.
        longest_text_bytes: of the longest text that is encoded as a whole; 0 where no size is known.
    """

    calibration: int
    calibration_seqlen: int
    evaluation: int
    evaluation_seqlen: int
    longest_text_bytes: int

    @property
    def calibration_tokens(self) -> int:
        return self.calibration * self.calibration_seqlen

    @property
    def evaluation_tokens(self) -> int:
        return self.evaluation * self.evaluation_seqlen


def text_load(
    calibration: Calibration | None, evaluation: Evaluation, architecture: Architecture, sizes: Mapping[str, int] | None = None
) -> TextLoad:
    """Args:
        calibration: None where nothing is calibrated.
        sizes: bytes of texts that are files, by `corpora.text_key`; those not in it count as unknown.
    Raises: InvalidOptions: a window longer than the model's positions.
    """
    sizes, positions = sizes or {}, architecture.max_positions
    seqlen = length_within("evaluation.seqlen", evaluation.seqlen, positions)
    read = [_text_bytes(source, "evaluation", sizes) for source in evaluation.sources]
    windows = sum(
        _windows(source, evaluation.windows, seqlen, size) for source, size in zip(evaluation.sources, read, strict=True)
    )
    if calibration is None:
        return TextLoad(0, seqlen, windows, seqlen, max(read, default=0))
    read.append(_text_bytes(calibration.source, "calibration", sizes))
    length = length_within("calibration.seqlen", calibration.seqlen, positions)
    return TextLoad(calibration.nsamples, length, windows, seqlen, max(read))


def _text_bytes(source: str, role: Role, sizes: Mapping[str, int]) -> int:
    key = text_key(source, role)
    if key in sizes:
        return 0 if source.endswith(".safetensors") else sizes[key]  # ready windows are not encoded
    return TEXT_BYTES.get((source, role), 0)


def _windows(source: str, asked: int | None, seqlen: int, size_bytes: int) -> int:
    """As `TextReader.evaluation` counts them; a text of unknown size is taken to be long enough."""
    there = max(1, size_bytes // BYTES_PER_TOKEN // seqlen) if size_bytes else asked or DEFAULT_WINDOWS
    if source in CORPORA:
        there = min(there, CORPORA[source].windows or there)
        return min(asked or there, there)
    return min(asked or DEFAULT_WINDOWS, there)
