"""Which weights stay: exact masks from saliency scores. Shapes: R = out_features, C = in_features."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from compression.errors import InvalidOptions


def zeros_before(sparsity: float, rows: int, column: int) -> int:
    """Weights to prune in the first `column` columns of a matrix with `rows` rows.

    Cumulative counts make the total round(s * R * C) exactly, however the columns are cut into blocks.
    """
    return round(sparsity * (rows * column))


def keep_largest(score: Tensor, pruned: int) -> Tensor:
    """Drop exactly `pruned` entries with the lowest score; ties go in storage order.

    Args: score: saliency, higher means keep; any shape; not modified.
    Returns: bool mask of the same shape, True where the weight stays.
    """
    return drop_smallest(score, pruned) == 0


def drop_smallest(score: Tensor, pruned: int) -> Tensor:
    """The same choice as numbers of the score's dtype, 1 where the weight goes. Without waiting for a device."""
    flat = score.reshape(-1)
    if pruned <= 0:
        return torch.zeros_like(flat).view(score.shape)
    threshold = _order_statistic(flat, pruned)
    drop = torch.lt(flat, threshold, out=torch.empty_like(flat))
    tied = torch.eq(flat, threshold, out=torch.empty_like(flat))
    missing = pruned - drop.sum(dtype=torch.float64)
    if flat.device.type == "cpu":
        tied.view(-1)[np.flatnonzero(tied.numpy())[int(missing) :]] = 0
    else:
        tied *= tied.cumsum(0, dtype=torch.float64) <= missing
    return drop.add_(tied).view(score.shape)


def _order_statistic(flat: Tensor, rank: int) -> Tensor:
    """The `rank`-th smallest entry, counted from one."""
    if flat.device.type == "cpu":  # numpy takes a quarter of torch's time
        return torch.as_tensor(np.partition(flat.numpy(), rank - 1)[rank - 1], dtype=flat.dtype)
    return flat.sort().values[rank - 1]  # a GPU selects by one of its multiprocessors and sorts by all: 80 times faster


def keep_largest_per_row(score_RC: Tensor, sparsity: float) -> Tensor:
    """Drop the lowest scores of each row; counts differ by at most one between rows and sum to round(s * R * C)."""
    rows, columns = score_RC.shape
    order = score_RC.argsort(dim=1, stable=True)
    ends = [zeros_before(sparsity, columns, row) for row in range(rows + 1)]
    pruned_R = torch.tensor([b - a for a, b in pairwise(ends)], device=score_RC.device)
    rank = torch.arange(columns, device=score_RC.device).expand(rows, columns)
    return torch.empty_like(score_RC, dtype=torch.bool).scatter_(1, order, rank >= pruned_R[:, None])


def keep_n_of_m(score_RC: Tensor, n: int, m: int) -> Tensor:
    """Keep the n highest scores in every m consecutive columns of each row.

    Returns: bool mask (R, C) with exactly R * C * n / m entries True, ties included.
    Raises: InvalidOptions: not 0 < n <= m, or C is not a multiple of m.
    Source: SparseGPT, arXiv:2301.00774, semi-structured sparsity.
    """
    if not 0 < n <= m or score_RC.shape[1] % m:
        raise InvalidOptions("pattern", f"{n}:{m} does not tile {score_RC.shape[1]} columns")
    groups = score_RC.unflatten(1, (-1, m))
    kept = groups.argsort(dim=-1, descending=True, stable=True)[..., :n]  # an exact count; a threshold fails on ties
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, kept, True).flatten(1)


def drop_all_but_n(score_MR: Tensor, n: int) -> Tensor:
    """The choice of `keep_n_of_m` for one group of m columns, transposed, as numbers: 1 where the weight goes.

    A weight goes when n others come before it: those that score more, and of equal ones those with a lower column.

    Args: score_MR: (M, R), any floating dtype; not modified.
    """
    m = len(score_MR)
    lower_MMR = score_MR.new_empty(m, m, score_MR.shape[1])
    torch.gt(score_MR[:, None], score_MR[None], out=lower_MMR)  # does a later column i score more than an earlier one j?
    lower_MMR.mul_(score_MR.new_ones(m, m).tril_(-1)[:, :, None])
    before_MR = lower_MMR.sum(0).sub_(lower_MMR.sum(1))  # those after it that score more, less those before it that do not
    return before_MR.ge_(n - torch.arange(m, device=score_MR.device, dtype=score_MR.dtype)[:, None])
