"""The one blocked column sweep that SparseGPT, OPTQ, their joint form and SpQR share.

Columns are decided left to right for all rows at once; the error of each is pushed onto the columns after it through the
rows of U, H^-1 = U^T U. Errors travel at three distances: one by one inside a leaf of a few columns, by a product of a leaf's
errors inside a strip, by one of a strip's errors inside a block, and by one of a block's behind it (the lazy update). So
nearly all the arithmetic is in matrix products, and what is not stays in the cache.

The methods differ only in what they decide for a column: keep or zero (`pruners.py`), round (`rounder.py`), or both.

Shapes: R = out_features, C = in_features, B = columns of a block, S = columns of a leaf. Weights are worked on transposed
(C, R), so that a column of the matrix is one contiguous row.
Sources: SparseGPT, arXiv:2301.00774, algorithm 1; OPTQ, arXiv:2210.17323, algorithm 1.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import lcm
from typing import Protocol

import torch
from torch import Tensor

from compression.pruners import Pruner
from compression.rounder import ColumnRounder

logger = logging.getLogger(__name__)

STRIP, LEAF = 64, 16  # columns: the fastest of those tried on an AVX2 processor with 512 KB of cache a core, 576 to 4096 rows


@dataclass(frozen=True)
class Sweep:
    """Result of a sweep: the weights, and the sum of squared errors E with W - W^ = E U, so tr(D H D^T) = |E|^2."""

    W_RC: Tensor
    squared_error: float


class Columns(Protocol):
    """Decides the columns of one block after the other, in place."""

    def decide(self, V_BC: Tensor, first: int, last: int) -> Tensor:
        """Decide columns first..last-1.

        Args: V_BC: rows of U divided by their diagonal entry, from column `first` on.
        Returns: errors w - q (B, R), overwritten by the next call.
        """


Decider = Callable[[Tensor, Pruner | None, ColumnRounder | None, int], Columns]  # weights (C, R), rules, widest block


def sweep(
    W_RC: Tensor,
    U_CC: Tensor,
    *,
    pruner: Pruner | None,
    rounder: ColumnRounder | None,
    block_size: int,
    decider: Decider | None = None,
) -> Sweep:
    """Decide every column and let the columns after it make up for the error.

    Args:
        W_RC: float32 weights in the order of U; not modified.
        pruner, rounder: at least one; a column is pruned first and what stays is rounded.
        decider: makes what decides the columns; None takes the fastest that can where the weights are.
    """
    W_CR = W_RC.T.contiguous()
    if W_CR.data_ptr() == W_RC.data_ptr():
        W_CR = W_CR.clone()
    rules = [rule for rule in (pruner, rounder) if rule is not None]
    aligns = [rule.align for rule in rules]
    decider = decider or pick_decider(W_CR, pruner, rounder)
    columns = decider(W_CR, pruner, rounder, min(max(block_size, *aligns), len(W_CR)))
    squared_error = torch.zeros((), dtype=torch.float64, device=W_RC.device)
    for first, last in blocks(0, len(W_CR), block_size, aligns):
        d_B = U_CC.diagonal()[first:last]
        V_BC = U_CC[first:last, first:] / d_B[:, None]  # what one unit of error in a column does to the columns after it
        for rule in rules:
            rule.enter_block(W_CR, first, last)
        E_BR = columns.decide(V_BC, first, last)
        for rule in rules:
            rule.leave_block()
        W_CR[last:].addmm_(V_BC[:, last - first :].T, E_BR, alpha=-1)
        squared_error += (E_BR.square().sum(1, dtype=torch.float64) / d_B.square()).sum()
    return Sweep(W_CR.T.contiguous(), float(squared_error))


def pick_decider(W_CR: Tensor, pruner: Pruner | None, rounder: ColumnRounder | None) -> Decider:
    """The fused kernel for rules that it knows on a CUDA device where it runs, else torch operations."""
    if not W_CR.is_cuda or W_CR.dtype != torch.float32 or not has_kernel(W_CR.device):
        return PlainColumns
    from compression import fused_columns

    return fused_columns.FusedColumns if fused_columns.can_decide(pruner, rounder) else PlainColumns


@cache
def has_kernel(device: torch.device) -> bool:
    """Whether triton is here and can compile for this device, found out by a launch, as it also needs a C compiler."""
    try:
        from compression import fused_columns

        fused_columns.try_out(device)
    except Exception as error:  # triton raises errors of many kinds, and all of them mean the same here
        logger.warning("columns are swept by torch operations, many times slower, as the fused kernel fails: %r", error)
        return False
    return True


class PlainColumns:
    """Columns decided by torch operations, on any device. Args: widest: columns of the widest block."""

    def __init__(self, W_CR: Tensor, pruner: Pruner | None, rounder: ColumnRounder | None, widest: int) -> None:
        self._aligns = [rule.align for rule in (pruner, rounder) if rule is not None]
        self._W_CR, self._pruner, self._rounder = W_CR, pruner, rounder
        self._E_BR = W_CR.new_empty(widest, W_CR.shape[1])
        self._errors = self._E_BR.unbind()  # making a view takes as long as a small operation
        self._Q_BR = torch.empty_like(self._E_BR) if rounder else self._E_BR
        self._values = self._Q_BR.unbind()
        self._V_BC, self._first = W_CR, 0

    def decide(self, V_BC: Tensor, first: int, last: int) -> Tensor:
        self._V_BC, self._first = V_BC, first
        self._strips(first, last, (STRIP, LEAF))
        return self._E_BR[: last - first]

    def _strips(self, first: int, last: int, widths: tuple[int, ...]) -> None:
        if not widths:
            self._leaf(first, last)
            return
        for begin, end in blocks(first, last, widths[0], self._aligns):
            self._strips(begin, end, widths[1:])
            if end < last:
                rows = slice(begin - self._first, end - self._first)
                V_SN = self._V_BC[rows, end - self._first : last - self._first]
                self._W_CR[end:last].addmm_(V_SN.T, self._E_BR[rows], alpha=-1)

    def _leaf(self, first: int, last: int) -> None:
        """Decide columns one by one; a bare loop, as each of its operations takes but a few microseconds."""
        start, end = first - self._first, last - self._first
        W_SR = self._W_CR[first:last]
        each = zip(W_SR.unbind(), self._V_BC[start:end, start:end, None].unbind(), strict=True)
        for place, (w_R, v_S1) in enumerate(each):
            e_R, q_R = self._errors[start + place], self._values[start + place]
            self._decide(w_R, first + place, e_R, q_R)
            W_SR[place + 1 :].addcmul_(v_S1[place + 1 :], e_R, value=-1)
        if self._rounder:
            W_SR.copy_(self._Q_BR[start:end])
        else:
            W_SR.sub_(self._E_BR[start:end])  # exact: an error is the weight itself or zero

    def _decide(self, w_R: Tensor, column: int, e_R: Tensor, q_R: Tensor) -> None:
        """Write the error of one column and, where columns are rounded, its value."""
        drop_R = self._pruner.drop(self._W_CR, column) if self._pruner else None
        if self._rounder is None:
            assert drop_R is not None
            torch.mul(w_R, drop_R, out=e_R)
            return
        kept_R = w_R if drop_R is None else torch.addcmul(w_R, w_R, drop_R, value=-1, out=e_R)
        self._rounder.round(kept_R, self._W_CR, column, q_R)
        torch.sub(w_R, q_R, out=e_R)


def blocks(first: int, last: int, size: int, aligns: list[int]) -> Iterator[tuple[int, int]]:
    """Cut columns first..last-1 into blocks of at most `size` that respect n:m groups and quantisation groups.

    A group that fits in a block is never cut, and a group larger than a block starts at the start of one: so whoever
    looks at a group when the sweep reaches it sees weights that carry all earlier updates.

    Args:
        first: where a group starts, or inside of one that is larger than a block.
        aligns: groups begin at multiples of these.
    """
    small = lcm(*(align for align in aligns if align <= size))
    step = size - size % small if small <= size else small
    large = [align for align in aligns if align > size]
    while first < last:
        end = min(first + step, last, *((first // align + 1) * align for align in large))
        yield first, end
        first = end
