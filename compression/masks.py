"""Which weights stay: exact masks from saliency scores. Shapes: R = out_features, C = in_features."""

from itertools import pairwise

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
    keep = torch.ones(score.numel(), dtype=torch.bool, device=score.device)
    if pruned <= 0:
        return keep.view(score.shape)
    flat = score.reshape(-1)
    threshold = flat.kthvalue(pruned).values  # selection, not a sort: linear time
    below, tied = flat < threshold, flat == threshold
    missing = pruned - int(below.sum())
    keep[below] = False
    keep[tied.nonzero().squeeze(1)[:missing]] = False
    return keep.view(score.shape)


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
