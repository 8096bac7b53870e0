"""ExactOBS: which weights go, chosen one after the other by what their removal costs. arXiv:2208.11580, algorithms 1 and 2.

A trace keeps the order in which a row gives up its blocks of inputs and what each cost, not the weights: those of any level
follow from the mask by one solve (`refit.py`). Shapes: R = out_features, C = in_features, S = inputs in a block, G = C / S
blocks in a row, K = removals traced.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.exact.elimination import Elimination, row_batches
from compression.masks import keep_largest


@dataclass(frozen=True)
class Trace:
    """Removals of each row in order.

    Args:
        order_RK: int64, the block removed.
        cost_RK: w_p^T (B_pp)^-1 w_p at that moment; a row's first k sum to d H d^T of its first k removals.
    """

    order_RK: Tensor
    cost_RK: Tensor


def greedy_trace(W_RC: Tensor, B_CC: Tensor, removals: int, *, size: int = 1, nm: tuple[int, int] | None = None) -> Trace:
    """Remove the cheapest block of each row, let the rest make up for it, and again; ties go in storage order.

    Args:
        W_RC: float64 weights; not modified.
        B_CC: float64 inverse of the damped Hessian.
        removals: K, the same in every row.
        nm: keep at least n of every m consecutive inputs.
    """
    rows, columns = W_RC.shape
    order_RK = torch.empty(rows, removals, dtype=torch.int64, device=W_RC.device)
    cost_RK = torch.empty(rows, removals, dtype=W_RC.dtype, device=W_RC.device)
    for batch in row_batches(rows, columns):
        part = _trace_batch(W_RC[batch].clone(), B_CC, removals, size, nm)
        order_RK[batch], cost_RK[batch] = part.order_RK, part.cost_RK
    return Trace(order_RK, cost_RK)


def _trace_batch(W_RF: Tensor, B_CC: Tensor, removals: int, size: int, nm: tuple[int, int] | None) -> Trace:
    rows, columns = W_RF.shape
    columns_RF = torch.arange(columns, device=W_RF.device).expand(rows, columns)
    state = Elimination(B_CC.expand(rows, columns, columns), columns_RF, size)
    n, m = nm or (0, columns)
    lost_RM = torch.zeros(rows, columns // m, dtype=torch.int64, device=W_RF.device)
    order, costs = [], []
    for _ in range(removals):
        if state.is_full:
            W_RF = W_RF.gather(1, state.cut())
        cost_RG = state.costs(W_RF)
        if nm:
            cost_RG.masked_fill_(lost_RM.gather(1, state.columns_RF // m) >= m - n, torch.inf)
        block_R1 = cost_RG.argmin(1, keepdim=True)
        first_R1 = state.columns_RF.gather(1, block_R1 * size)
        order.append(first_R1 // size)
        costs.append(cost_RG.gather(1, block_R1))
        if nm:
            lost_RM.scatter_add_(1, first_R1 // m, torch.ones_like(first_R1))
        off_RS = W_RF.unflatten(1, (-1, size)).gather(1, block_R1[:, :, None].expand(-1, -1, size))[:, 0]
        state.remove(block_R1[:, 0], off_RS, W_RF)
    return Trace(torch.cat(order, 1), torch.cat(costs, 1))


def select(cost_RK: Tensor, count: int) -> Tensor:
    """How many removals each row makes when the row with the cheapest next one goes first, `count` times in all.

    That is a heap of rows keyed by their next cost. A removal behind a dearer one of its row is reached with it, so the heap
    takes the smallest running maxima, and one selection finds them: int64 (R,).
    """
    return (~keep_largest(cost_RK.cummax(1).values, count)).sum(1)


def keep_mask(order_RK: Tensor, removed_R: Tensor, columns: int, size: int = 1) -> Tensor:
    """Bool (R, C), False for the first removals of each row."""
    rows, removals = order_RK.shape
    is_gone_RK = torch.arange(removals, device=order_RK.device) < removed_R[:, None]
    keep_RG = torch.ones(rows, columns // size, dtype=torch.bool, device=order_RK.device)
    keep_RG[is_gone_RK.nonzero(as_tuple=True)[0], order_RK[is_gone_RK]] = False
    return keep_RG.repeat_interleave(size, 1)


def exact_mask(W_RC: Tensor, B_CC: Tensor, sparsity: float, size: int = 1) -> Tensor:
    """The mask of ExactOBS: exactly round(sparsity * R * G) blocks go, as many from each row as its costs say."""
    rows, columns = W_RC.shape
    groups = columns // size
    count = round(sparsity * (rows * groups))
    if count == 0:
        return torch.ones_like(W_RC, dtype=torch.bool)
    depth = min(groups, math.ceil(count / rows) + groups // 8)  # rows seldom lose many more than the mean
    trace = greedy_trace(W_RC, B_CC, depth, size=size)
    order_RG = torch.zeros(rows, groups, dtype=torch.int64, device=W_RC.device)
    cost_RG = W_RC.new_full((rows, groups), torch.inf)
    order_RG[:, :depth], cost_RG[:, :depth] = trace.order_RK, trace.cost_RK
    is_spent_R = select(cost_RG, count) == depth
    if depth < groups and bool(is_spent_R.any()):
        whole = greedy_trace(W_RC[is_spent_R], B_CC, groups, size=size)
        order_RG[is_spent_R], cost_RG[is_spent_R] = whole.order_RK, whole.cost_RK
    return keep_mask(order_RG, select(cost_RG, count), columns, size)


def exact_nm_mask(W_RC: Tensor, B_CC: Tensor, n: int, m: int) -> Tensor:
    """The mask of greedy n:m pruning: each row removes the cheapest weight whose group may still lose one."""
    removals = W_RC.shape[1] // m * (m - n)
    trace = greedy_trace(W_RC, B_CC, removals, nm=(n, m))
    return keep_mask(trace.order_RK, torch.full_like(trace.order_RK[:, 0], removals), W_RC.shape[1])
