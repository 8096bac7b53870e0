"""Taking inputs out of inverse Hessians, each row of a batch in its own order.

With F the inputs that a row still has, B = (H_F)^-1. Removing a block p of them subtracts Y^T Y, where Y = L^-1 B[p, :] and
L L^T = B[p, p]; that is the inverse of H without p (arXiv:2208.11580, lemma 1), and one step of a Cholesky factorisation of
H^-1 with chosen pivots. The Y of many steps are collected: a step forms the few rows of B that it needs, and a whole run of
steps is subtracted as one matrix product, on which occasion the removed inputs are cut out. Everything in float64: the
downdates of a damped H then drift so little that no inverse has to be computed anew (a test holds this).

Shapes: R = rows of the batch, C = in_features, F = inputs left at the last cut, S = inputs in a block, G = F / S blocks,
T = collected steps times S.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from compression.budgets import BATCH_BYTES

STEPS_BETWEEN_CUTS = (16, 128)  # an eighth of the inputs left, within these


def row_batches(rows: int, columns: int) -> Iterator[slice]:
    """Rows that are solved together: as many as have room for one inverse each."""
    size = max(1, BATCH_BYTES // (8 * columns * columns))
    for first in range(0, rows, size):
        yield slice(first, min(first + size, rows))


class Elimination:
    """The inverse Hessians of a batch of rows while blocks of inputs leave them.

    Args:
        B_RFF: float64 inverse of each row; may be one inverse expanded to all rows; not modified.
        columns_RF: the input in the layer that each place stands for.
        size: S; places k * S .. k * S + S - 1 are a block.
    Attributes: B_RFF, columns_RF: as of the last cut. removed_RG: the blocks that have left since.
    """

    def __init__(self, B_RFF: Tensor, columns_RF: Tensor, size: int = 1) -> None:
        self.B_RFF, self.columns_RF, self._size = B_RFF, columns_RF, size
        self._open()

    def _open(self) -> None:
        """Start collecting on the present inverses."""
        rows, places = self.columns_RF.shape
        shortest, longest = STEPS_BETWEEN_CUTS
        self._room = self._size * min(max(places // 8 // self._size, shortest), longest)
        self._Y_RTF = self.B_RFF.new_empty(rows, self._room, places)
        self._used = 0
        self.removed_RG = torch.zeros(rows, places // self._size, dtype=torch.bool, device=self.columns_RF.device)
        blocks_RGSF = self.B_RFF.unflatten(1, (-1, self._size)).unflatten(3, (-1, self._size))
        self.diagonal_RGSS = blocks_RGSF.diagonal(dim1=1, dim2=3).movedim(-1, 1).clone()

    @property
    def is_full(self) -> bool:
        """Whether `cut` must be called before the next removal."""
        return self._used == self._room

    def costs(self, W_RF: Tensor) -> Tensor:
        """w_p^T (B_pp)^-1 w_p of every block, infinite where it has left: twice the rise of the loss. (R, G)"""
        if self._size == 1:
            cost_RG: Tensor = W_RF.square() / self.diagonal_RGSS[:, :, 0, 0]
        else:
            W_RGS = W_RF.unflatten(1, (-1, self._size))
            cost_RG = (torch.linalg.solve(self.diagonal_RGSS, W_RGS) * W_RGS).sum(-1)
        return cost_RG.masked_fill_(self.removed_RG, torch.inf)

    def remove(self, block_R: Tensor, off_RS: Tensor, W_RF: Tensor) -> None:
        """Take one block out of each row, and let the inputs left make up for a change of `-off` in its weights.

        Args:
            block_R: int64 place of the block.
            off_RS: what its weights are to lose: w for pruning, w - q(w) for rounding.
            W_RF: the weights, updated in place; those of the block end at w - off up to rounding.
        """
        places_RS = block_R[:, None] * self._size + torch.arange(self._size, device=block_R.device)
        Y_RSF = self._rows(places_RS)
        L_RSS = torch.linalg.cholesky(Y_RSF.gather(2, places_RS[:, None].expand(-1, self._size, -1)))
        Y_RSF = torch.linalg.solve_triangular(L_RSS, Y_RSF, upper=False)
        share_RS1 = torch.linalg.solve_triangular(L_RSS, off_RS[:, :, None], upper=False)
        W_RF.sub_((share_RS1 * Y_RSF).sum(1))
        self._Y_RTF[:, self._used : self._used + self._size] = Y_RSF
        self._used += self._size
        Y_RSGS = Y_RSF.unflatten(2, (-1, self._size))
        self.diagonal_RGSS -= (Y_RSGS[..., :, None] * Y_RSGS[..., None, :]).sum(1)
        self.removed_RG.scatter_(1, block_R[:, None], True)
        eye_SS = torch.eye(self._size, dtype=Y_RSF.dtype, device=Y_RSF.device)
        self.diagonal_RGSS[torch.arange(len(block_R)), block_R] = eye_SS  # zero by now, and `costs` must divide by it

    def cut(self) -> Tensor:
        """Subtract what was collected and drop the inputs that have left.

        Returns: the places, of those before, that stay: (R, F'), rising. Every row must have lost as many.
        """
        left = self.removed_RG.shape[1] - self._used // self._size
        blocks_RG = self.removed_RG.to(torch.int8).argsort(dim=1, stable=True)[:, :left]
        stay_RF = (blocks_RG[:, :, None] * self._size + torch.arange(self._size, device=blocks_RG.device)).flatten(1)
        count = stay_RF.shape[1]
        row_R1 = torch.arange(len(stay_RF), device=stay_RF.device)[:, None]
        B_RFF = self.B_RFF[row_R1, stay_RF].gather(2, stay_RF[:, None].expand(-1, count, -1))
        Y_RTF = self._Y_RTF[:, : self._used].gather(2, stay_RF[:, None].expand(-1, self._used, -1))
        self.B_RFF = B_RFF.baddbmm_(Y_RTF.mT, Y_RTF, alpha=-1)
        self.columns_RF = self.columns_RF.gather(1, stay_RF)
        self._open()
        return stay_RF

    def _rows(self, places_RS: Tensor) -> Tensor:
        """Rows of the present B: (R, S, F)."""
        row_R1 = torch.arange(len(places_RS), device=places_RS.device)[:, None]
        B_RSF = self.B_RFF[row_R1, places_RS]
        if not self._used:
            return B_RSF
        Y_RTF = self._Y_RTF[:, : self._used]
        taken_RTS = Y_RTF.gather(2, places_RS[:, None].expand(-1, self._used, -1))
        return torch.baddbmm(B_RSF, taken_RTS.mT, Y_RTF, alpha=-1)
