"""The plain baseline and Scalpel share no solver code, and agree: each is an independent check of the other."""

import pytest
import torch

from benchmarks.plain import solver as plain
from compression import methods  # noqa: F401  registers the solvers
from compression.layer import LayerProblem
from compression.options import OptqOptions, SparseGptOptions
from compression.registry import solve
from tests.compression.problems import correlated_inputs, hessian_of, random_weights

ROWS, COLUMNS, BLOCK = 24, 96, 32
DEAD = 5


@pytest.fixture
def layer() -> LayerProblem:
    """One input is always zero."""
    X_NC = correlated_inputs(400, COLUMNS)
    X_NC[:, DEAD] = 0
    return LayerProblem("layer", random_weights(ROWS, COLUMNS), hessian_of(X_NC))


def test_hessian_is_the_sum_of_all_windows() -> None:
    X_NC = correlated_inputs(64, COLUMNS)
    hessian = plain.Hessian(COLUMNS, torch.device("cpu"))
    for window in X_NC.view(4, 16, COLUMNS):
        hessian.add(window[None])
    torch.testing.assert_close(hessian.H_CC, X_NC.T @ X_NC)


def test_factor_is_scalpels(layer: LayerProblem) -> None:
    _, H_CC = plain.without_dead(layer.W_RC, layer.hessian.H_CC)
    torch.testing.assert_close(plain.upper_factor(H_CC, 0.01), layer.hessian.factor(0.01).U_CC, rtol=1e-3, atol=1e-4)


def test_pruned_weights_are_scalpels(layer: LayerProblem) -> None:
    W_RC, H_CC = plain.without_dead(layer.W_RC, layer.hessian.H_CC)
    pruned_RC = plain.prune(W_RC, plain.upper_factor(H_CC, 0.01), 0.5, BLOCK)
    ours_RC = solve(layer, SparseGptOptions(sparsity=0.5, block_size=BLOCK)).weights.to_dense()
    assert int((pruned_RC == 0).sum()) == ROWS * COLUMNS // 2
    assert torch.equal(pruned_RC == 0, ours_RC == 0)
    assert (pruned_RC[:, DEAD] == 0).all()
    torch.testing.assert_close(pruned_RC, ours_RC, rtol=1e-3, atol=1e-3)
    assert float((pruned_RC - layer.W_RC)[pruned_RC != 0].abs().max()) > 0.1  # kept weights moved


def test_rounded_weights_are_scalpels(layer: LayerProblem) -> None:
    W_RC, H_CC = plain.without_dead(layer.W_RC, layer.hessian.H_CC)
    order_C = H_CC.diagonal().argsort(descending=True)
    U_CC = plain.upper_factor(H_CC[order_C][:, order_C], 0.01)
    rounded_RC = plain.round_columns(W_RC, U_CC, order_C, *plain.grids(W_RC, 4, 32), 4, BLOCK)
    ours_RC = solve(layer, OptqOptions(bits=4, group_size=32, block_size=BLOCK)).weights.to_dense()
    live = torch.arange(COLUMNS) != DEAD  # it decides nothing, and each visits it at another time
    torch.testing.assert_close(rounded_RC[:, live], ours_RC[:, live])
