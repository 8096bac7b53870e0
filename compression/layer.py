"""What a method gets and what it gives back. Shapes: R = out_features, C = in_features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compression.hessian import Hessian, strips
from compression.weights import DenseWeights, GridWeights, Weights


@dataclass(frozen=True)
class LayerProblem:
    """One matrix to compress.

    Args:
        W_RC: dense weights in float32; methods do not modify them.
        hessian: of its calibration inputs; shared between matrices that read the same input.
        scale_dtype: the dtype that scales will be stored in.
        parts: rows of each matrix, where W is several on top of each other; what a method counts, it counts for each.
    """

    name: str
    W_RC: Tensor
    hessian: Hessian
    scale_dtype: torch.dtype = torch.float32
    parts: tuple[int, ...] = ()


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

    def split(self, rows: Sequence[int]) -> "list[LayerSolution]":
        """The answer for matrices on top of each other, as one for each."""
        assert isinstance(self.weights, DenseWeights | GridWeights)
        return [replace(self, weights=weights) for weights in self.weights.split(rows)]


def relative_error(W_RC: Tensor, solved_RC: Tensor, hessian: Hessian) -> float | None:
    """tr(D H D^T) / tr(W H W^T) with D = W - W^ and H undamped; None when nothing reached the layer."""
    if hessian.tokens == 0:
        return None
    lost, whole = _energy(W_RC - solved_RC, hessian.H_CC), float(_energy(W_RC, hessian.H_CC))
    return float(lost) / whole if whole > 0 else None


def _energy(D_RC: Tensor, H_CC: Tensor) -> Tensor:
    """tr(D H D^T) by strips of columns: H is symmetric, so that its upper triangle and half of the work tell all of it."""
    energy = torch.zeros((), dtype=torch.float64, device=D_RC.device)
    for first, last in strips(len(H_CC), H_CC.device):
        D_RS = D_RC[:, first:last]
        product_RS = D_RS @ H_CC[first:last, first:last]
        product_RS.addmm_(D_RC[:, :first], H_CC[:first, first:last], alpha=2)
        energy += product_RS.mul_(D_RS).sum(dtype=torch.float64)
    return energy
