"""What a method gets and what it gives back. Shapes: R = out_features, C = in_features, G = groups in a row."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compression.grids import dequantize
from compression.hessian import Hessian


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
class DenseWeights:
    """Weights as they are; a zero is a pruned weight."""

    W_RC: Tensor

    def to_dense(self) -> Tensor:
        return self.W_RC

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.W_RC}


@dataclass(frozen=True)
class GridWeights:
    """Integer codes on a grid: value = scale * (code - zero_point).

    Args:
        codes_RC: uint8 (R, C).
        scale_RG, zero_RG: one grid to each group of each row.
        group_C: int32 (C,), the group that a column belongs to.
        bits: codes lie in 0 .. 2^bits - 1.
    """

    codes_RC: Tensor
    scale_RG: Tensor
    zero_RG: Tensor
    group_C: Tensor
    bits: int

    def to_dense(self) -> Tensor:
        index = self.group_C.long()
        return dequantize(self.codes_RC.to(self.scale_RG.dtype), self.scale_RG[:, index], self.zero_RG[:, index])

    def tensors(self) -> dict[str, Tensor]:
        return {
            "codes": self.codes_RC,
            "scale": self.scale_RG,
            "zero_point": self.zero_RG.to(torch.uint8),
            "group": self.group_C,
            "bits": torch.tensor(self.bits, dtype=torch.int32),
        }


Weights = DenseWeights | GridWeights


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


def weights_from(tensors: Mapping[str, Tensor]) -> Weights:
    """The inverse of `tensors()`."""
    if "weight" in tensors:
        return DenseWeights(tensors["weight"])
    scale_RG = tensors["scale"]
    return GridWeights(
        tensors["codes"], scale_RG, tensors["zero_point"].to(scale_RG.dtype), tensors["group"], int(tensors["bits"])
    )


def relative_error(W_RC: Tensor, solved_RC: Tensor, hessian: Hessian) -> float | None:
    """tr(D H D^T) / tr(W H W^T) with D = W - W^ and H undamped; None when nothing reached the layer."""
    if hessian.tokens == 0:
        return None
    D_RC = W_RC - solved_RC
    lost = torch.sum((D_RC @ hessian.H_CC) * D_RC, dtype=torch.float64)
    whole = torch.sum((W_RC @ hessian.H_CC) * W_RC, dtype=torch.float64)
    return float(lost / whole) if float(whole) > 0 else None
