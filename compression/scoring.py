"""Both models' last hidden states -> what the pass reports of them: by next tokens, or of an encoder by its outputs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from compression.evaluation import WindowScore, score_window
from compression.labelled import Choices
from compression.models.activations import Stream
from compression.models.streamed import StreamedModel
from compression.output_error import WindowError, window_error


@dataclass
class Scores:
    """Of every evaluation window, in order: `windows` of a language model, `errors` of an encoder.

    Args: choices: of every labelled text, in order.
    """

    windows: list[WindowScore] = field(default_factory=list)
    errors: list[WindowError] = field(default_factory=list)
    choices: list[Choices] = field(default_factory=list)


def score(
    model: StreamedModel,
    evaluation_WL: Tensor,
    dense: Stream,
    compressed: Stream,
    labelled: Sequence[tuple[Stream, Stream]],
) -> Scores:
    """Args: labelled: streams of dense and compressed model over labelled texts of one length each."""
    architecture, pairs = model.checkpoint.architecture, [(dense[w], compressed[w]) for w in range(len(dense))]
    found = Scores()
    if architecture.is_encoder:
        found.errors = [window_error(*pair) for pair in pairs]
    else:
        found.windows = [
            score_window(ids_L, *pair, model.logits, architecture.vocab_size, compressed_head=model.written_logits)
            for ids_L, pair in zip(evaluation_WL, pairs, strict=True)
        ]
    for first, second in labelled:
        found.choices += [(_label(model, first[w]), _label(model, second[w])) for w in range(len(first))]
    return found


def _label(model: StreamedModel, hidden_1LD: Tensor) -> int:
    return int(model.logits(hidden_1LD)[0].argmax())
