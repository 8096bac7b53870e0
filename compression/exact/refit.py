"""The best weights on a given mask: masked least squares, row by row. Shapes: R = out_features, C = in_features.

Removing weights one after another with exact updates ends at the same point as removing them all at once, whatever the order,
so the weights of a mask need no trace. Rows keep different numbers of inputs, K at most; shorter ones are padded.
"""

import torch
from torch import Tensor

from compression.exact.elimination import row_batches


def refit(W_RC: Tensor, H_CC: Tensor, keep_RC: Tensor) -> Tensor:
    """argmin over W^ with the mask's zeros of tr((W - W^) H (W - W^)^T): H_KK d_K = H_KP w_P, with P the pruned.

    Args: W_RC, H_CC: float64, H damped; not modified.
    Returns: (R, C) float64, exactly zero where pruned; a row that keeps everything is the very same.
    """
    solved_RC = torch.where(keep_RC, W_RC, 0)
    pull_RC = (W_RC - solved_RC) @ H_CC
    for batch in row_batches(*W_RC.shape):
        columns_RK, is_pad_RK = kept_columns(keep_RC[batch])
        H_RKK = submatrices(H_CC, columns_RK, is_pad_RK)
        pull_RK = pull_RC[batch].gather(1, columns_RK).masked_fill_(is_pad_RK, 0)
        shift_RK1 = torch.cholesky_solve(pull_RK[:, :, None], torch.linalg.cholesky(H_RKK))
        solved_RC[batch] = solved_RC[batch].scatter_add(1, columns_RK, shift_RK1[:, :, 0])
    return solved_RC


def kept_columns(keep_RC: Tensor) -> tuple[Tensor, Tensor]:
    """The kept columns of each row, then pruned ones as padding up to the longest row; and which are padding. Both (R, K)."""
    longest = int(keep_RC.sum(1).max())
    columns_RK = (~keep_RC).to(torch.int8).argsort(dim=1, stable=True)[:, :longest]
    return columns_RK, ~keep_RC.gather(1, columns_RK)


def submatrices(H_CC: Tensor, columns_RK: Tensor, is_pad_RK: Tensor) -> Tensor:
    """H on the columns of each row, (R, K, K); a padding column is a one on the diagonal, coupled to nothing."""
    H_RKK = H_CC[columns_RK].gather(2, columns_RK[:, None].expand(-1, columns_RK.shape[1], -1))
    H_RKK.masked_fill_(is_pad_RK[:, :, None] | is_pad_RK[:, None, :], 0)
    H_RKK.diagonal(dim1=1, dim2=2).masked_fill_(is_pad_RK, 1)
    return H_RKK
