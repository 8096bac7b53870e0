"""One matrix at a time: Hessian, factor, and the two column loops.

Sources: SparseGPT, arXiv:2301.00774, algorithm 1; OPTQ, arXiv:2210.17323, algorithm 1. Shapes: N = tokens, C = in_features,
R = out_features, B = columns of a block, G = groups in a row, S = columns of a group.
"""

import torch
from torch import Tensor


class Hessian:
    """Sums X^T X. The papers' factor 2 changes nothing, because damping is relative."""

    def __init__(self, columns: int, device: torch.device) -> None:
        self.H_CC = torch.zeros(columns, columns, device=device)

    def add(self, X_NC: Tensor) -> None:
        X_NC = X_NC.reshape(-1, X_NC.shape[-1]).float()
        self.H_CC += X_NC.T @ X_NC


def without_dead(W_RC: Tensor, H_CC: Tensor) -> tuple[Tensor, Tensor]:
    """Copies of both: inputs that were always zero get a one on the diagonal and zero weights."""
    W_RC, H_CC = W_RC.float().clone(), H_CC.clone()
    dead_C = H_CC.diagonal() == 0
    H_CC[dead_C, dead_C] = 1
    W_RC[:, dead_C] = 0
    return W_RC, H_CC


def upper_factor(H_CC: Tensor, damp: float) -> Tensor:
    """U upper triangular with H^-1 = U^T U, by two Cholesky factorisations and an inverse, as the papers do it."""
    H_CC = H_CC + damp * H_CC.diagonal().mean() * torch.eye(H_CC.shape[0], device=H_CC.device)
    inverse_CC = torch.cholesky_inverse(torch.linalg.cholesky(H_CC))
    U_CC: Tensor = torch.linalg.cholesky(inverse_CC, upper=True)
    return U_CC


def prune(W_RC: Tensor, U_CC: Tensor, sparsity: float, block_size: int) -> Tensor:
    """SparseGPT: the lowest scores of each block of columns go. Args: W_RC: is overwritten and returned."""
    columns = W_RC.shape[1]
    for first in range(0, columns, block_size):
        last = min(first + block_size, columns)
        W_RB, U_BB = W_RC[:, first:last].clone(), U_CC[first:last, first:last]
        E_RB = torch.zeros_like(W_RB)
        scores = (W_RB**2 / U_BB.diagonal() ** 2).flatten()
        pruned = torch.zeros_like(scores, dtype=torch.bool)
        pruned[scores.argsort()[: int(sparsity * scores.numel())]] = True
        pruned_RB = pruned.view_as(W_RB)
        for j in range(last - first):
            w_R = W_RB[:, j]
            q_R = torch.where(pruned_RB[:, j], 0, w_R)
            E_RB[:, j] = (w_R - q_R) / U_BB[j, j]
            W_RB[:, j:] -= E_RB[:, j, None] @ U_BB[None, j, j:]
            W_RB[:, j] = q_R
        W_RC[:, first:last] = W_RB
        W_RC[:, last:] -= E_RB @ U_CC[first:last, last:]
    return W_RC


def grids(W_RC: Tensor, bits: int, group_size: int) -> tuple[Tensor, Tensor]:
    """Asymmetric min-max grids of all groups: scale and zero point, both (R, G)."""
    W_RGS = W_RC.unflatten(1, (-1, group_size))
    low_RG, high_RG = W_RGS.amin(-1).clamp(max=0), W_RGS.amax(-1).clamp(min=0)
    is_empty = low_RG == high_RG
    low_RG, high_RG = torch.where(is_empty, -1.0, low_RG), torch.where(is_empty, 1.0, high_RG)
    scale_RG = (high_RG - low_RG) / (2**bits - 1)
    return scale_RG, torch.round(-low_RG / scale_RG)


def round_columns(
    W_RC: Tensor, U_CC: Tensor, order_C: Tensor, scale_RG: Tensor, zero_RG: Tensor, bits: int, block_size: int
) -> Tensor:
    """The loop of OPTQ. Args: U_CC: in the order in which columns are visited. Returns: weights in storage order."""
    columns = W_RC.shape[1]
    group_C = (order_C // (columns // scale_RG.shape[1])).tolist()
    W_RC = W_RC[:, order_C]
    for first in range(0, columns, block_size):
        last = min(first + block_size, columns)
        W_RB, U_BB = W_RC[:, first:last].clone(), U_CC[first:last, first:last]
        E_RB = torch.zeros_like(W_RB)
        for j in range(last - first):
            w_R, group = W_RB[:, j], group_C[first + j]
            scale_R, zero_R = scale_RG[:, group], zero_RG[:, group]
            code_R = torch.clamp(torch.round(w_R / scale_R) + zero_R, 0, 2**bits - 1)
            q_R = scale_R * (code_R - zero_R)
            E_RB[:, j] = (w_R - q_R) / U_BB[j, j]
            W_RB[:, j:] -= E_RB[:, j, None] @ U_BB[None, j, j:]
            W_RB[:, j] = q_R
        W_RC[:, first:last] = W_RB
        W_RC[:, last:] -= E_RB @ U_CC[first:last, last:]
    return W_RC[:, order_C.argsort()]
