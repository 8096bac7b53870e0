"""What the sweep rounds a column to. Shapes: R = out_features, C = in_features, B = columns of a block, G = groups in a row,
S = columns of a group."""

from typing import Protocol

import torch
from torch import Tensor

from compression import grids
from compression.options import Bits, Offset, top_code

_NO_GRID = (torch.empty(0),) * 3


class ColumnRounder(Protocol):
    """Decides what a column is rounded to."""

    align: int  # as a pruner's

    def enter_block(self, W_CR: Tensor, first: int, last: int) -> None:
        """Columns first..last-1 are about to be decided."""

    def round(self, w_R: Tensor, W_CR: Tensor, column: int, into_R: Tensor) -> None:
        """Write a column's new values. `w_R` is the column after pruning; W_CR holds all earlier updates for its group."""

    def leave_block(self) -> None:
        """The columns are decided."""


class Rounder:
    """Rounds columns to grids, keeps the codes, and fits grids on the way unless they were fitted beforehand.

    A column costs four operations: a code is kept as its distance from the zero point, so that neither adding the zero point
    nor taking it away is needed for the value, and becomes a code with all others of its block.

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
        self.is_static = fitted is not None
        self.bits, self.offset = bits, offset
        self.group_C, self._groups = group_C, group_C.tolist()
        self._symmetric, self._search, self._scale_dtype = symmetric, search, scale_dtype
        self.codes_CR = torch.empty(len(self._groups), rows, dtype=torch.uint8, device=group_C.device)
        self.align = 1 if self.is_static or groups == 1 else self._groups.count(0)
        if fitted is None:
            self.scale_GR, self.zero_GR = (torch.empty(groups, rows, device=group_C.device) for _ in range(2))
        else:
            self.scale_GR, self.zero_GR = (fitted_RG.T.contiguous() for fitted_RG in fitted)
        self._grids = [_NO_GRID] * groups
        if self.is_static:
            self._grids = list(zip(*(part_GR.unbind() for part_GR in self._grid(self.scale_GR, self.zero_GR)), strict=True))
        self._first = 0
        self._steps_BR = self.scale_GR
        self._steps: tuple[Tensor, ...] = ()

    @property
    def scale_RG(self) -> Tensor:
        return self.scale_GR.T.contiguous()

    @property
    def zero_RG(self) -> Tensor:
        return self.zero_GR.T.contiguous()

    def enter_block(self, W_CR: Tensor, first: int, last: int) -> None:
        self._first = first
        self._steps_BR = torch.empty_like(W_CR[first:last])
        self._steps = self._steps_BR.unbind()

    def round(self, w_R: Tensor, W_CR: Tensor, column: int, into_R: Tensor) -> None:
        self.reach(W_CR, column)
        group = self._groups[column]
        scale_R, low_R, high_R = self._grids[group]
        steps_R = torch.div(w_R, scale_R, out=self._steps[column - self._first])
        if self.offset == "zero_point":
            torch.mul(steps_R.round_().clamp_(low_R, high_R), scale_R, out=into_R)
        else:
            steps_R.add_(self.zero_GR[group]).round_().clamp_(0, top_code(self.bits))
            torch.mul(steps_R, scale_R, out=into_R).add_(low_R)

    def reach(self, W_CR: Tensor, column: int) -> None:
        """The sweep is at `column`: where a group starts there whose grid is not yet known, fit it."""
        if not self.is_static and (column == 0 or self._groups[column - 1] != self._groups[column]):
            self.fit_group(W_CR, column)

    def steps_leaf(self, first: int, last: int) -> Tensor:
        """Where the steps of columns first..last-1 of the block go, (S, R): distances from the zero point, or codes."""
        return self._steps_BR[first - self._first : last - self._first]

    def leave_block(self) -> None:
        """Distances from the zero point become codes."""
        at = slice(self._first, self._first + len(self._steps_BR))
        if self.offset == "zero_point":
            self._steps_BR.add_(self.zero_GR[self.group_C[at].long()])
        self.codes_CR[at] = self._steps_BR
        self._steps = ()

    def fit_group(self, W_CR: Tensor, column: int) -> None:
        """Fit the grid of the group that starts at `column`, on the weights as they are now."""
        group = self._groups[column]
        scale_RG, zero_RG = grids.fit(
            W_CR[column : column + self._groups.count(group)].T[:, None],
            self.bits,
            symmetric=self._symmetric,
            search=self._search,
            scale_dtype=self._scale_dtype,
            offset=self.offset,
        )
        self.scale_GR[group], self.zero_GR[group] = scale_RG[:, 0], zero_RG[:, 0]
        self._grids[group] = self._grid(self.scale_GR[group], self.zero_GR[group])

    def _grid(self, scale: Tensor, zero: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scale, and the least and greatest distance from the zero point; in the form `minimum` the value of code 0, twice."""
        if self.offset == "minimum":
            least = grids.minimum(scale, zero)
            return scale, least, least
        return scale, zero.neg(), zero.neg().add_(top_code(self.bits))
