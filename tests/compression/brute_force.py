"""The mathematics once more, slowly and without tricks: float64, explicit inverses, loops over rows and weights.

Nothing here shares code with the library. Shapes: R = out_features, C = in_features, S = weights in a group.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Decide = Callable[[Tensor, int], Tensor]  # (current weights (R, C), column) -> new values of the column (R,)


def damped(H_CC: Tensor, damp: float) -> Tensor:
    """H as the methods define it: dead inputs get a one on the diagonal, then damp times the diagonal's mean."""
    H_CC = H_CC.double().clone()
    for column in range(H_CC.shape[0]):
        if H_CC[column, column] == 0:
            H_CC[column, column] = 1
    return H_CC + damp * H_CC.diagonal().mean() * torch.eye(H_CC.shape[0], dtype=torch.float64)


def upper_factor(H_CC: Tensor) -> Tensor:
    """U upper with H^-1 = U^T U, the textbook way."""
    lower_CC: Tensor = torch.linalg.cholesky(torch.linalg.inv(H_CC.double()))
    return lower_CC.T


def obs(W_RC: Tensor, H_CC: Tensor, decide: Decide) -> Tensor:
    """Fix one column after the other; after each, move the columns that are left by the OBS formula, row by row."""
    W_RC = W_RC.double().clone()
    for column in range(W_RC.shape[1]):
        value_R = decide(W_RC, column)
        inverse = torch.linalg.inv(H_CC[column:, column:])
        for row in range(W_RC.shape[0]):
            step = (W_RC[row, column] - value_R[row]) / inverse[0, 0]
            W_RC[row, column:] -= step * inverse[0]
            W_RC[row, column] = value_R[row]
    return W_RC


def removal_cost(W_RC: Tensor, H_CC: Tensor, column: int) -> Tensor:
    """w^2 / [H_F^-1]_jj for the columns F from this one on (twice the rise of the loss)."""
    inverse: Tensor = torch.linalg.inv(H_CC[column:, column:])
    return W_RC[:, column].square() / inverse[0, 0]


def masked(keep_RC: Tensor) -> Decide:
    """A mask that was fixed beforehand."""
    return lambda W_RC, column: torch.where(keep_RC[:, column], W_RC[:, column], 0)


def blockwise(H_CC: Tensor, sparsity: float, block: int) -> Decide:
    """SparseGPT's mask: at each block start, the cheapest of the whole block go."""
    columns = H_CC.shape[0]
    keep: dict[tuple[int, int], bool] = {}

    def decide(W_RC: Tensor, column: int) -> Tensor:
        rows = W_RC.shape[0]
        if column % block == 0:
            last = min(column + block, columns)
            cost = {(r, c): float(removal_cost(W_RC, H_CC, c)[r]) for r in range(rows) for c in range(column, last)}
            count = round(sparsity * rows * last) - round(sparsity * rows * column)
            cheapest = set(sorted(cost, key=lambda place: cost[place])[:count])
            keep.update({place: place not in cheapest for place in cost})
        return torch.stack([W_RC[r, column] if keep[r, column] else W_RC.new_zeros(()) for r in range(rows)])

    return decide


def groupwise(H_CC: Tensor, n: int, m: int) -> Decide:
    """SparseGPT's n:m mask: each row keeps the n dearest of m columns, chosen when the sweep reaches them."""
    keep: dict[tuple[int, int], bool] = {}

    def decide(W_RC: Tensor, column: int) -> Tensor:
        rows = range(W_RC.shape[0])
        if column % m == 0:
            for row in rows:
                cost = {c: float(removal_cost(W_RC, H_CC, c)[row]) for c in range(column, column + m)}
                dearest = set(sorted(cost, key=lambda c: -cost[c])[:n])
                keep.update({(row, c): c in dearest for c in cost})
        return torch.stack([W_RC[row, column] if keep[row, column] else W_RC.new_zeros(()) for row in rows])

    return decide


def grid(weights_S: Tensor, bits: int, symmetric: bool = False, shrink: float = 1.0) -> tuple[float, int]:
    """Scale and zero point of one group of one row; the range holds zero."""
    low, high = min(0.0, float(weights_S.min())), max(0.0, float(weights_S.max()))
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    if low == high:
        low, high = -1.0, 1.0
    scale = shrink * (high - low) / (2**bits - 1)
    zero = 2 ** (bits - 1) if symmetric else int(np.clip(np.round(-shrink * low / scale), 0, 2**bits - 1))
    return scale, zero


def nearest(weight: float, scale: float, zero: int, bits: int) -> float:
    """The nearest value of a grid."""
    return scale * float(np.clip(np.round(weight / scale) + zero, 0, 2**bits - 1) - zero)


def best_shrink(weights_S: Tensor, bits: int, symmetric: bool) -> tuple[float, float]:
    """The shrunken range with the least sum |error|^2.4, by trying all of them: (shrink, that sum)."""
    sums = {}
    for step in range(80):
        scale, zero = grid(weights_S, bits, symmetric, 1 - step / 100)
        sums[1 - step / 100] = sum(abs(nearest(float(w), scale, zero, bits) - float(w)) ** 2.4 for w in weights_S)
    shrink = min(sums, key=lambda tried: sums[tried])
    return shrink, sums[shrink]


def rounded(W_RC: Tensor, bits: int, group_size: int, *, symmetric: bool = False, dynamic: bool = False) -> Decide:
    """Round to grids of `group_size` columns: fitted on these weights, or (dynamic) when the sweep reaches a group."""
    grids: dict[tuple[int, int], tuple[float, int]] = {}

    def decide(current_RC: Tensor, column: int) -> Tensor:
        group = column // group_size
        source_RC = current_RC if dynamic else W_RC
        for row in range(W_RC.shape[0]):
            if (row, group) not in grids:
                members = source_RC[row, group * group_size : (group + 1) * group_size]
                grids[row, group] = grid(members, bits, symmetric)
        values = [nearest(float(current_RC[r, column]), *grids[r, group], bits) for r in range(W_RC.shape[0])]
        return torch.tensor(values, dtype=torch.float64)

    return decide


def then(first: Decide, second: Callable[[Tensor, int], Tensor]) -> Decide:
    """Prune, then round what stays (a zero stays zero on every grid)."""

    def decide(W_RC: Tensor, column: int) -> Tensor:
        pruned_R = first(W_RC, column)
        rounded_R = second(W_RC, column)
        return torch.where(pruned_R == 0, pruned_R, rounded_R)

    return decide


def fractional_grid(weights_S: Sequence[float], bits: int) -> tuple[float, float]:
    """SpQR's first level: scale and zero point, a fraction; the range holds zero only where the weights are almost alike."""
    low, high = min(weights_S), max(weights_S)
    if (high - low) * 128 <= max(-low, high):
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        high = 1.0
    scale = (high - low) / (2**bits - 1)
    return scale, -low / scale


def fractional_nearest(weight: float, scale: float, zero: float, bits: int) -> tuple[int, float]:
    """The nearest code of a grid with a fractional zero point, and its value."""
    code = int(np.clip(np.round(weight / scale + zero), 0, 2**bits - 1))
    return code, scale * (code - zero)
