"""Which weights of a column the sweep drops. Shapes: R = out_features, C = in_features, B = columns of a block, S = columns
of a leaf, M = columns of an n:m group.

Masks are numbers of the weights' dtype, 1 where a weight goes: a product with them is several times faster than a selection
by booleans, which torch does not vectorise on processors.
"""

from typing import Protocol

import torch
from torch import Tensor

from compression.masks import drop_all_but_n, drop_smallest, zeros_before


class Pruner(Protocol):
    """Decides which weights of a column go."""

    align: int  # blocks must start and end on multiples of this

    def enter_block(self, W_CR: Tensor, first: int, last: int) -> None:
        """Columns first..last-1 are about to be decided; W_CR holds all earlier updates for them."""

    def drop(self, W_CR: Tensor, column: int) -> Tensor:
        """1 where the weight goes and 0 where it stays: (R,), in W's dtype."""

    def leave_block(self) -> None:
        """The columns are decided."""


class UnstructuredPruner:
    """Drops the cheapest weights of a whole block of columns by their OBS saliency w^2 / U_jj^2, in exact number.

    Args: parts: rows of the matrices that are swept as one; each has its own count, as if it were alone.
    """

    align = 1

    def __init__(self, U_CC: Tensor, sparsity: float, parts: tuple[int, ...] = ()) -> None:
        self._d_C = U_CC.diagonal()
        self._sparsity = sparsity
        self._parts = parts
        self._first = 0
        self._drop_BR = self._d_C
        self._drops: tuple[Tensor, ...] = ()

    def enter_block(self, W_CR: Tensor, first: int, last: int) -> None:
        self._first = first
        self._drop_BR = self.drop_block(W_CR, first, last)
        self._drops = self._drop_BR.unbind()

    def drop_block(self, W_CR: Tensor, first: int, last: int) -> Tensor:
        """The masks of all columns of a block, (B, R)."""
        score_BR = (W_CR[first:last] / self._d_C[first:last, None]).square_()
        dropped = []
        for part_BR in score_BR.split(self._parts or score_BR.shape[1], dim=1):
            before, after = (zeros_before(self._sparsity, part_BR.shape[1], column) for column in (first, last))
            dropped.append(drop_smallest(part_BR, after - before))
        return torch.cat(dropped, 1) if len(dropped) > 1 else dropped[0]

    def drop(self, W_CR: Tensor, column: int) -> Tensor:
        return self._drops[column - self._first]

    def drop_leaf(self, first: int, last: int) -> Tensor:
        """The masks of columns first..last-1 of the block, (S, R)."""
        return self._drop_BR[first - self._first : last - self._first]

    def leave_block(self) -> None:
        self._drop_BR = self._d_C
        self._drops = ()


class NmPruner:
    """Keeps the n dearest of every m consecutive columns in each row, chosen when the sweep reaches the group."""

    def __init__(self, U_CC: Tensor, n: int, m: int) -> None:
        self.align = m
        self.n = n
        self.d_C = U_CC.diagonal()
        self._d_C1 = self.d_C[:, None]
        self._drop_MR: tuple[Tensor, ...] = ()

    def enter_block(self, W_CR: Tensor, first: int, last: int) -> None:
        """Nothing to prepare: the choice is made group by group."""

    def drop(self, W_CR: Tensor, column: int) -> Tensor:
        place = column % self.align
        if place == 0:
            group = slice(column, column + self.align)
            self._drop_MR = drop_all_but_n((W_CR[group] / self._d_C1[group]).square_(), self.n).unbind()
        return self._drop_MR[place]

    def leave_block(self) -> None:
        """Nothing to put away."""
