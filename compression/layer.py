"""What a method gets and what it gives back. Shapes: R = out_features, C = in_features."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compression.hessian import Hessian
from compression.weights import Weights


@dataclass(frozen=True)
class LayerProblem:
    """One matrix to compress.

    Args:
        W_RC: dense weights in float32; methods do not modify them.
        hessian: of its calibration inputs; shared between matrices that read the same input.
        scale_dtype: the dtype that scales will be stored in.
    """

    name: str
    W_RC: Tensor
    hessian: Hessian
    scale_dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class LayerSolution:
    """A method's answer for one matrix.

    Args:
        method: the method that gave the weights; after a fallback, the data-free one.
        damp: damping that the factorisation needed; None for methods without a factor.
        fallbacks: steps of the failure ladder that were taken, in order.
    """

    weights: Weights
    method: str
    damp: float | None = None
    fallbacks: tuple[str, ...] = ()

    def after(self, steps: tuple[str, ...]) -> "LayerSolution":
        """The same answer, reached after these failed steps."""
        return replace(self, fallbacks=(*steps, f"fell back to {self.method}", *self.fallbacks))


def relative_error(W_RC: Tensor, solved_RC: Tensor, hessian: Hessian) -> float | None:
    """tr(D H D^T) / tr(W H W^T) with D = W - W^ and H undamped; None when nothing reached the layer."""
    if hessian.tokens == 0:
        return None
    D_RC = W_RC - solved_RC
    lost = torch.sum((D_RC @ hessian.H_CC) * D_RC, dtype=torch.float64)
    whole = torch.sum((W_RC @ hessian.H_CC) * W_RC, dtype=torch.float64)
    return float(lost / whole) if float(whole) > 0 else None
