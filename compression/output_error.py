"""Two encoders on the same windows: how far apart their last hidden states are. No next token, so no perplexity.

Shapes: L = window, D = hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from compression.errors import NumericalError
from compression.report import OutputErrorResult, TextSet
from compression.statistics import mean_and_error

MIN_NEIGHBOURS = 3  # windows, for one to have a choice among others


@dataclass(frozen=True)
class WindowError:
    """Of one window.

    Args:
        relative_error: |dense - compressed|^2 / |dense|^2 over all its tokens.
        cosine: mean over tokens.
        dense_D, compressed_D: its embeddings, the mean of its states over tokens.
    """

    relative_error: float
    cosine: float
    dense_D: Tensor = field(compare=False)
    compressed_D: Tensor = field(compare=False)


def window_error(dense_1LD: Tensor, compressed_1LD: Tensor) -> WindowError:
    """Compare last hidden states, in float64.

    Raises: NumericalError: they are not finite.
    """
    dense_LD, compressed_LD = dense_1LD[0].double(), compressed_1LD[0].double()
    for name, states in (("dense", dense_LD), ("compressed", compressed_LD)):
        if not torch.isfinite(states).all():
            raise NumericalError("last block", f"the {name} model's outputs are not finite numbers; its weights are ruined")
    error = (dense_LD - compressed_LD).square().sum() / dense_LD.square().sum()
    cosine = float(torch.cosine_similarity(dense_LD, compressed_LD, dim=-1).mean())
    return WindowError(float(error), cosine, dense_LD.mean(0), compressed_LD.mean(0))


def neighbour_agreement(dense_WD: Tensor, compressed_WD: Tensor) -> float | None:
    """Share of embeddings whose nearest other one, by cosine, is the same in both; None with fewer than three."""
    if len(dense_WD) < MIN_NEIGHBOURS:
        return None
    nearest = []
    for embeddings_WD in (dense_WD, compressed_WD):
        unit_WD = torch.nn.functional.normalize(embeddings_WD, dim=1)
        nearest.append((unit_WD @ unit_WD.T).fill_diagonal_(-2).argmax(1))
    return float((nearest[0] == nearest[1]).double().mean())


def summarise_errors(text: TextSet, errors: Sequence[WindowError]) -> OutputErrorResult:
    """Means and standard errors over windows."""
    relative, relative_error = mean_and_error([error.relative_error for error in errors])
    cosine, cosine_error = mean_and_error([error.cosine for error in errors])
    dense_WD, compressed_WD = (
        torch.stack(found) for found in zip(*((e.dense_D, e.compressed_D) for e in errors), strict=True)
    )
    return OutputErrorResult(
        text=text,
        relative_error=relative,
        relative_error_standard_error=relative_error,
        cosine=cosine,
        cosine_standard_error=cosine_error,
        embedding_cosine=float(torch.cosine_similarity(dense_WD, compressed_WD).mean()),
        neighbour_agreement=neighbour_agreement(dense_WD, compressed_WD),
    )
