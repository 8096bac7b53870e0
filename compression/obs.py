"""The one blocked column sweep that SparseGPT, OPTQ, their joint form and SpQR share.

Columns are decided left to right for all rows at once; the error of each is pushed onto the columns after it through the
rows of U, H^-1 = U^T U. Inside a block of columns at once, behind the block by one matrix product (the lazy update).
The methods differ only in what they decide for a column: keep or zero (`Pruner`), round (`ColumnRounder`), or both.

Shapes: R = out_features, C = in_features, B = columns of a block, G = groups in a row. Weights are worked on transposed
(C, R), so that a column of the matrix is one contiguous row.
Sources: SparseGPT, arXiv:2301.00774, algorithm 1; OPTQ, arXiv:2210.17323, algorithm 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm
from typing import Protocol

import torch
from torch import Tensor

from compression import grids
from compression.masks import keep_largest, keep_n_of_m, zeros_before
from compression.options import Bits, Offset


@dataclass(frozen=True)
class Sweep:
    """Result of a sweep: the weights, and the sum of squared errors E with W - W^ = E U, so tr(D H D^T) = |E|^2."""

    W_RC: Tensor
    squared_error: float


class Pruner(Protocol):
    """Decides which weights of a column stay."""

    align: int  # blocks must start and end on multiples of this

    def enter_block(self, W_CR: Tensor, first: int, last: int) -> None:
        """Columns first..last-1 are about to be decided; W_CR holds all earlier updates for them."""

    def keep(self, W_CR: Tensor, column: int) -> Tensor:
        """Bool (R,), True where the weight stays."""


class UnstructuredPruner:
    """Drops the cheapest weights of a whole block of columns by their OBS saliency w^2 / U_jj^2, in exact number."""

    align = 1

    def __init__(self, U_CC: Tensor, sparsity: float) -> None:
        self._d_C = U_CC.diagonal()
        self._sparsity = sparsity
        self._first = 0
        self._keep_BR = torch.empty(0)

    def enter_block(self, W_CR: Tensor, first: int, last: int) -> None:
        rows = W_CR.shape[1]
        pruned = zeros_before(self._sparsity, rows, last) - zeros_before(self._sparsity, rows, first)
        score_BR = (W_CR[first:last] / self._d_C[first:last, None]).square_()
        self._first, self._keep_BR = first, keep_largest(score_BR, pruned)

    def keep(self, W_CR: Tensor, column: int) -> Tensor:
        return self._keep_BR[column - self._first]


class NmPruner:
    """Keeps the n dearest of every m consecutive columns in each row, chosen when the sweep reaches the group."""

    def __init__(self, U_CC: Tensor, n: int, m: int) -> None:
        self.align = m
        self._n, self._m = n, m
        self._d_C = U_CC.diagonal()
        self._keep_RM = torch.empty(0)

    def enter_block(self, W_CR: Tensor, first: int, last: int) -> None:
        """Nothing to prepare: the choice is made group by group."""

    def keep(self, W_CR: Tensor, column: int) -> Tensor:
        place = column % self._m
        if place == 0:
            score_MR = (W_CR[column : column + self._m] / self._d_C[column : column + self._m, None]).square_()
            self._keep_RM = keep_n_of_m(score_MR.T, self._n, self._m)
        return self._keep_RM[:, place]


class ColumnRounder(Protocol):
    """Decides what a column is rounded to."""

    align: int  # as a pruner's

    def round(self, w_R: Tensor, W_CR: Tensor, column: int) -> Tensor:
        """New values (R,) of a column; `w_R` is the column after pruning, W_CR holds all earlier updates for its group."""


class Rounder:
    """Rounds columns to grids, keeps the codes, and fits grids on the way unless they were fitted beforehand.

    Args:
        group_C: the group of each column in the order of the sweep.
        fitted: (scale_RG, zero_RG) of static groups; None fits each group when the sweep reaches it, on current weights.
    """

    def __init__(
        self,
        rows: int,
        group_C: Tensor,
        bits: Bits,
        *,
        symmetric: bool,
        search: bool,
        scale_dtype: torch.dtype,
        fitted: tuple[Tensor, Tensor] | None,
        offset: Offset = "zero_point",
    ) -> None:
        groups = int(group_C.max()) + 1
        self._groups = group_C.tolist()
        self._bits, self._offset = bits, offset
        self._symmetric, self._search, self._scale_dtype = symmetric, search, scale_dtype
        self._is_static = fitted is not None
        self.scale_RG, self.zero_RG = fitted or (
            torch.empty(rows, groups, device=group_C.device),
            torch.empty(rows, groups, device=group_C.device),
        )
        self.codes_CR = torch.empty(len(self._groups), rows, dtype=torch.uint8, device=group_C.device)
        self.align = 1 if self._is_static or groups == 1 else self._groups.count(0)

    def round(self, w_R: Tensor, W_CR: Tensor, column: int) -> Tensor:
        group = self._groups[column]
        if not self._is_static and (column == 0 or self._groups[column - 1] != group):
            self._fit(W_CR[column : column + self._groups.count(group)], group)
        scale_R, zero_R = self.scale_RG[:, group], self.zero_RG[:, group]
        code_R = grids.quantize(w_R, scale_R, zero_R, self._bits, self._offset)
        self.codes_CR[column] = code_R
        return grids.dequantize(code_R, scale_R, zero_R, self._offset)

    def _fit(self, W_SR: Tensor, group: int) -> None:
        scale_RG, zero_RG = grids.fit(
            W_SR.T[:, None],
            self._bits,
            symmetric=self._symmetric,
            search=self._search,
            scale_dtype=self._scale_dtype,
            offset=self._offset,
        )
        self.scale_RG[:, group], self.zero_RG[:, group] = scale_RG[:, 0], zero_RG[:, 0]


def sweep(W_RC: Tensor, U_CC: Tensor, *, pruner: Pruner | None, rounder: ColumnRounder | None, block_size: int) -> Sweep:
    """Decide every column and let the columns after it make up for the error.

    Args: W_RC: float32 weights in the order of U; not modified.
    """
    W_CR = W_RC.T.contiguous()
    if W_CR.data_ptr() == W_RC.data_ptr():
        W_CR = W_CR.clone()
    aligns = [rule.align for rule in (pruner, rounder) if rule is not None]
    squared_error = 0.0
    for first, last in blocks(W_CR.shape[0], block_size, aligns):
        if pruner:
            pruner.enter_block(W_CR, first, last)
        E_BR = _sweep_block(W_CR, U_CC, first, last, pruner, rounder)
        W_CR[last:].addmm_(U_CC[first:last, last:].T, E_BR, alpha=-1)
        squared_error += float(E_BR.square().sum(dtype=torch.float64))
    return Sweep(W_CR.T.contiguous(), squared_error)


def _sweep_block(
    W_CR: Tensor, U_CC: Tensor, first: int, last: int, pruner: Pruner | None, rounder: ColumnRounder | None
) -> Tensor:
    """Columns first..last-1 in place; returns their errors E (B, R)."""
    E_BR = torch.empty_like(W_CR[first:last])
    diagonal = U_CC.diagonal()[first:last].tolist()
    for column in range(first, last):
        w_R = W_CR[column]
        q_R = w_R
        if pruner:
            q_R = torch.where(pruner.keep(W_CR, column), w_R, 0)
        if rounder:
            q_R = rounder.round(q_R, W_CR, column)
        error_R = E_BR[column - first]
        torch.sub(w_R, q_R, out=error_R).div_(diagonal[column - first])
        W_CR[column + 1 : last].addr_(U_CC[column, column + 1 : last], error_R, alpha=-1)
        w_R.copy_(q_R)
    return E_BR


def blocks(columns: int, block_size: int, aligns: list[int]) -> Iterator[tuple[int, int]]:
    """Cut columns into blocks of at most `block_size` that respect n:m groups and quantisation groups.

    A group that fits in a block is never cut, and a group larger than a block starts at the start of one: so whoever
    looks at a group when the sweep reaches it sees weights that carry all earlier updates.
    """
    small = lcm(*(align for align in aligns if align <= block_size))
    step = block_size - block_size % small if small <= block_size else small
    large = [align for align in aligns if align > block_size]
    first = 0
    while first < columns:
        last = min(first + step, columns, *((first // align + 1) * align for align in large))
        yield first, last
        first = last
