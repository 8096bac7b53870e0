"""OBQ: round one weight after the other, always the cheapest, and let the ones not yet rounded make up for it.

Source: arXiv:2208.11580, section 5. Pruned weights are fixed from the start: their inputs leave the Hessian of their row.
Shapes: R = out_features, C = in_features, F = weights of a row not yet rounded at the last cut.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compression import grids
from compression.exact.elimination import Elimination, row_batches
from compression.exact.refit import kept_columns, submatrices
from compression.options import Bits, Offset


@dataclass(frozen=True)
class PlaceGrids:
    """The grid of each weight, by place. Args: scale_RF, zero_RF: float64, as `grids` defines them."""

    scale_RF: Tensor
    zero_RF: Tensor
    bits: Bits
    offset: Offset = "zero_point"

    def rows(self, batch: slice) -> "PlaceGrids":
        return replace(self, scale_RF=self.scale_RF[batch], zero_RF=self.zero_RF[batch])

    def at(self, places_RF: Tensor) -> "PlaceGrids":
        """The grids of these places of each row, in their order."""
        return replace(self, scale_RF=self.scale_RF.gather(1, places_RF), zero_RF=self.zero_RF.gather(1, places_RF))

    def codes(self, W_RF: Tensor) -> Tensor:
        return grids.quantize(W_RF, self.scale_RF, self.zero_RF, self.bits, self.offset)

    def values(self, codes_RF: Tensor) -> Tensor:
        return grids.dequantize(codes_RF, self.scale_RF, self.zero_RF, self.offset)


def round_greedily(W_RC: Tensor, H_CC: Tensor, B_CC: Tensor, keep_RC: Tensor | None, places: PlaceGrids) -> Tensor:
    """The code of every weight.

    The next weight of a row is the one with the least (w - q(w))^2 / B_pp; but a weight that updates have pushed off the grid
    by more than half a step goes at once, while there are others left to make up for it (the outlier order).

    Args:
        W_RC: float64 weights, zero where pruned; not modified.
        H_CC, B_CC: damped Hessian and its inverse, float64.
        keep_RC: False where a weight is pruned and must stay the code of zero; None: nothing is.
        places: the grid of each weight, (R, C).
    Returns: (R, C) integers in float64.
    """
    codes_RC = places.codes(torch.zeros_like(W_RC))
    for batch in row_batches(*W_RC.shape):
        rows, columns = W_RC[batch].shape
        if keep_RC is None:
            columns_RF = torch.arange(columns, device=W_RC.device).expand(rows, columns)
            B_RFF = B_CC.expand(rows, columns, columns)
        else:
            columns_RF, is_pad_RF = kept_columns(keep_RC[batch])  # a pad is a zero that nothing pulls at; it rounds to itself
            B_RFF = torch.cholesky_inverse(torch.linalg.cholesky(submatrices(H_CC, columns_RF, is_pad_RF)))
        _round_batch(Elimination(B_RFF, columns_RF), W_RC[batch], places.rows(batch), codes_RC[batch])
    return codes_RC


def _round_batch(state: Elimination, W_RC: Tensor, places: PlaceGrids, codes_RC: Tensor) -> None:
    """Round every place of `state`; fills codes_RC in place."""
    W_RF, places = W_RC.gather(1, state.columns_RF), places.at(state.columns_RF)
    for _ in range(W_RF.shape[1]):
        if state.is_full:
            stay_RF = state.cut()
            W_RF, places = W_RF.gather(1, stay_RF), places.at(stay_RF)
        code_RF = places.codes(W_RF)
        off_RF = W_RF - places.values(code_RF)
        place_R1 = _next(state, off_RF, places.scale_RF)
        codes_RC.scatter_(1, state.columns_RF.gather(1, place_R1), code_RF.gather(1, place_R1))
        state.remove(place_R1[:, 0], off_RF.gather(1, place_R1), W_RF)


def _next(state: Elimination, off_RF: Tensor, scale_RF: Tensor) -> Tensor:
    """The place that each row rounds next: (R, 1)."""
    cheapest_R1 = state.costs(off_RF).argmin(1, keepdim=True)
    error_RF = off_RF.abs().masked_fill_(state.removed_RG, 0)
    worst_R1 = error_RF.argmax(1, keepdim=True)
    is_outlier_RF = error_RF > scale_RF / 2
    return torch.where(is_outlier_RF.any(1, keepdim=True), worst_R1, cheapest_R1)
