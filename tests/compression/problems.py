"""Layers to compress: random weights and inputs whose neighbours are alike, as those of language models are.

Shapes: R = out_features, C = in_features, N = tokens.
"""

import torch
from torch import Tensor

from compression.hessian import Hessian
from compression.layer import LayerProblem


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_weights(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=seeded(seed))


def correlated_inputs(tokens: int, columns: int, seed: int = 0, rho: float = 0.9) -> Tensor:
    """AR(1) over the columns: neighbouring inputs correlate with rho, and every column has its own size."""
    noise_NC = torch.randn(tokens, columns, generator=seeded(seed + 1000))
    X_NC = noise_NC.clone()
    for column in range(1, columns):
        X_NC[:, column] = rho * X_NC[:, column - 1] + (1 - rho**2) ** 0.5 * noise_NC[:, column]
    return X_NC * (0.5 + torch.rand(columns, generator=seeded(seed + 2000)))


def hessian_of(X_NC: Tensor) -> Hessian:
    """Summed in float64, held in the dtype of the inputs."""
    H_CC = 2 / X_NC.shape[0] * (X_NC.double().T @ X_NC.double())
    return Hessian(H_CC.to(X_NC.dtype), X_NC.shape[0])


def layer(
    rows: int,
    columns: int,
    seed: int = 0,
    *,
    W_RC: Tensor | None = None,
    X_NC: Tensor | None = None,
    scale_dtype: torch.dtype = torch.float32,
) -> LayerProblem:
    """A whole problem; weights or inputs may be given. There are more tokens than columns, so H has full rank."""
    W_RC = random_weights(rows, columns, seed) if W_RC is None else W_RC
    X_NC = correlated_inputs(4 * columns + 8, columns, seed) if X_NC is None else X_NC
    return LayerProblem("model.layers.0.mlp.down_proj", W_RC, hessian_of(X_NC), scale_dtype)


def output_error(layer: LayerProblem, solved_RC: Tensor) -> float:
    """tr(D H D^T) with H undamped: the mean squared change of the outputs, times two."""
    D_RC = (layer.W_RC - solved_RC).double()
    return float(((D_RC @ layer.hessian.H_CC.double()) * D_RC).sum())


def hadamard(order: int) -> Tensor:
    """A matrix of +-1 with exactly orthogonal rows and columns. Args: order: a power of two."""
    H = torch.ones(1, 1)
    while H.shape[0] < order:
        H = torch.kron(H, torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    return H
