"""A sweep's columns decided leaf by leaf, each in one launch: what `obs.py` does for CUDA tensors.

Beyond the leaf errors travel by matrix products, as in `obs.py`. A block of 128 columns costs a dozen launches in place of
about 1300, and none waits for the host.

This file and `fused_leaf.py` import triton, which only CUDA builds of torch bring along; `obs.py` imports them where they are
wanted, and decides by torch operations where they cannot be had.

Shapes: R = out_features, C = in_features, B = columns of a block, S = columns of a leaf.
"""

import torch
import triton
from torch import Tensor

from compression.fused_leaf import LEAF, OPTIONS, TILE, decide_leaf
from compression.obs import blocks
from compression.options import top_code
from compression.pruners import NmPruner, Pruner, UnstructuredPruner
from compression.rounder import ColumnRounder, Rounder


def can_decide(pruner: Pruner | None, rounder: ColumnRounder | None) -> bool:
    """Whether the kernel knows these rules; it holds an n:m group in one leaf."""
    if type(pruner) not in (NmPruner, UnstructuredPruner, type(None)) or type(rounder) not in (Rounder, type(None)):
        return False
    m, group_size = pruner.align if pruner else 1, _group_size(rounder)
    return m <= LEAF and (group_size is None or group_size % m == 0)


def _group_size(rounder: ColumnRounder | None) -> int | None:
    """Columns of a group, where grids are fitted on the way: between launches, so that a leaf reaches into one group only."""
    if not isinstance(rounder, Rounder) or rounder.is_static or len(rounder.scale_GR) == 1:
        return None
    return rounder.align


def try_out(device: torch.device) -> None:
    """Decide a column of one weight. Raises: whatever keeps the kernel from being compiled or run."""
    W_CR, U_CC = (torch.ones(1, 1, device=device) for _ in range(2))
    pruner = UnstructuredPruner(U_CC, 0.0)
    pruner.enter_block(W_CR, 0, 1)
    FusedColumns(W_CR, pruner, None, 1).decide(U_CC, 0, 1)


class FusedColumns:
    """Columns decided leaf by leaf, for rules that `can_decide` knows.

    Args:
        W_CR: float32, contiguous.
        widest: columns of the widest block.
    """

    def __init__(self, W_CR: Tensor, pruner: Pruner | None, rounder: ColumnRounder | None, widest: int) -> None:
        assert can_decide(pruner, rounder) and W_CR.dtype == torch.float32
        self._aligns = [rule.align for rule in (pruner, rounder) if rule is not None]
        self._W_CR, self._pruner = W_CR, pruner
        self._rounder = rounder if isinstance(rounder, Rounder) else None
        self._leaf_size = min(LEAF, _group_size(rounder) or LEAF)
        self._E_BR = W_CR.new_empty(widest, W_CR.shape[1])
        self._d_C = pruner.d_C.contiguous() if isinstance(pruner, NmPruner) else W_CR

    def decide(self, V_BC: Tensor, first: int, last: int) -> Tensor:
        for begin, end in blocks(first, last, self._leaf_size, self._aligns):
            leaf = slice(begin - first, end - first)
            if self._rounder:
                self._rounder.reach(self._W_CR, begin)
            with torch.cuda.device_of(self._W_CR):
                self._launch(V_BC[leaf, leaf], self._E_BR[leaf], begin, end)
            if end < last:
                self._W_CR[end:last].addmm_(V_BC[leaf, end - first : last - first].T, self._E_BR[leaf], alpha=-1)
        return self._E_BR[: last - first]

    def _launch(self, V_SS: Tensor, E_SR: Tensor, first: int, last: int) -> None:
        """Decide columns first..last-1, on the current device."""
        rows, unused = self._W_CR.shape[1], self._W_CR
        drop_SR, d_S, n, m = unused, unused, 0, 1
        if isinstance(self._pruner, NmPruner):
            d_S, n, m = self._d_C[first:], self._pruner.n, self._pruner.align
        elif isinstance(self._pruner, UnstructuredPruner):
            drop_SR = self._pruner.drop_leaf(first, last)
        steps_SR, scale_GR, zero_GR, group_S, top = unused, unused, unused, unused, 0
        if self._rounder:
            steps_SR, group_S = self._rounder.steps_leaf(first, last), self._rounder.group_C[first:]
            scale_GR, zero_GR, top = self._rounder.scale_GR, self._rounder.zero_GR, top_code(self._rounder.bits)
        decide_leaf[(triton.cdiv(rows, TILE),)](
            self._W_CR[first:last],
            E_SR,
            V_SS,
            drop_SR,
            d_S,
            steps_SR,
            scale_GR,
            zero_GR,
            group_S,
            rows,
            last - first,
            *V_SS.stride(),
            n,
            m,
            top,
            PRUNES="n:m" if isinstance(self._pruner, NmPruner) else "mask" if self._pruner else "",
            ROUNDS=self._rounder.offset if self._rounder else "",
            S=LEAF,
            T=TILE,
            **OPTIONS,
        )
