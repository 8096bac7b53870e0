"""Two encoders on the same windows: how far apart their last hidden states are. No next token, so no perplexity.

Shapes: L = window, D = hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.errors import NumericalError
from compression.report import OutputErrorResult, TextSet
from compression.statistics import mean_and_error


@dataclass(frozen=True)
class WindowError:
    """Of one window: |dense - compressed|^2 / |dense|^2 over all its tokens, and the mean cosine over tokens."""

    relative_error: float
    cosine: float


def window_error(dense_1LD: Tensor, compressed_1LD: Tensor) -> WindowError:
    """Compare last hidden states, in float64.

    Raises: NumericalError: they are not finite.
    """
    dense_LD, compressed_LD = dense_1LD[0].double(), compressed_1LD[0].double()
    for name, states in (("dense", dense_LD), ("compressed", compressed_LD)):
        if not torch.isfinite(states).all():
            raise NumericalError("last block", f"the {name} model's outputs are not finite numbers; its weights are ruined")
    error = (dense_LD - compressed_LD).square().sum() / dense_LD.square().sum()
    return WindowError(float(error), float(torch.cosine_similarity(dense_LD, compressed_LD, dim=-1).mean()))


def summarise_errors(text: TextSet, errors: Sequence[WindowError]) -> OutputErrorResult:
    """Means and standard errors over windows."""
    relative, relative_error = mean_and_error([error.relative_error for error in errors])
    cosine, cosine_error = mean_and_error([error.cosine for error in errors])
    return OutputErrorResult(
        text=text,
        relative_error=relative,
        relative_error_standard_error=relative_error,
        cosine=cosine,
        cosine_standard_error=cosine_error,
    )
