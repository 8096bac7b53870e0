"""Layers in float64 for the exact solvers, and what is best for them. Shapes: R = out_features, C = in_features."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tests.compression import brute_force
from tests.compression.problems import correlated_inputs, hessian_of, random_weights


@dataclass(frozen=True)
class Problem:
    W_RC: Tensor
    H_CC: Tensor
    B_CC: Tensor

    def loss(self, solved_RC: Tensor) -> float:
        """tr(D H D^T) with H damped."""
        D_RC = self.W_RC - solved_RC
        return float(((D_RC @ self.H_CC) * D_RC).sum())


def problem(rows: int, columns: int, seed: int = 0, *, damp: float = 0.01, rho: float = 0.9) -> Problem:
    X_NC = correlated_inputs(4 * columns + 8, columns, seed, rho).double()
    H_CC = brute_force.damped(hessian_of(X_NC).H_CC, damp)
    return Problem(random_weights(rows, columns, seed).double(), H_CC, torch.linalg.inv(H_CC))


def least_squares(w_C: Tensor, H_CC: Tensor, fixed: dict[int, float]) -> Tensor:
    """The weights nearest to w in H with some of them held at given values, by their normal equations."""
    free = [column for column in range(len(w_C)) if column not in fixed]
    held = list(fixed)
    solved_C = w_C.clone()
    solved_C[held] = torch.tensor([fixed[column] for column in held], dtype=w_C.dtype)
    pull_F = H_CC[free][:, held] @ (w_C[held] - solved_C[held])
    if free:
        solved_C[free] += torch.linalg.solve(H_CC[free][:, free], pull_F)
    return solved_C


def row_loss(w_C: Tensor, H_CC: Tensor, solved_C: Tensor) -> float:
    return float((w_C - solved_C) @ H_CC @ (w_C - solved_C))
