"""Matrices that read one input are solved on top of each other, and each gets what it would get alone.

Alone and together differ by the rounding of matrix products of other shapes, 1e-6 of a weight. So the seeds are fixed ones,
whose scores and rounding thresholds lie farther apart than that: masks and codes are then the same to the last entry.
"""

import pytest
import torch

from compression import methods  # noqa: F401  registers the solvers
from compression.block import alike
from compression.families.base import Matrix
from compression.hessian import Hessian
from compression.layer import LayerProblem
from compression.options import JointOptions, MethodOptions, ObcOptions, OptqOptions, SparseGptOptions, SpqrOptions
from compression.plan import PlannedLayer
from compression.registry import solve, solve_together
from compression.weights import GridWeights
from tests.compression.problems import correlated_inputs, hessian_of, random_weights

TOGETHER: dict[str, MethodOptions] = {
    "sparsegpt": SparseGptOptions(sparsity=0.5, block_size=24),
    "sparsegpt 37%": SparseGptOptions(sparsity=0.37),
    "sparsegpt 2:4": SparseGptOptions(sparsity=0.5, pattern="2:4"),
    "optq": OptqOptions(bits=4, group_size=16),
    "optq mse": OptqOptions(bits=3, group_size="row", grid="mse"),
    "optq with dynamic groups": OptqOptions(bits=4, group_size=16, static_groups=False),
    "optq minimum": OptqOptions(bits=4, group_size=16, offset="minimum"),
    "joint": JointOptions(sparsity=0.5, bits=4, group_size=16),
    "joint 2:4": JointOptions(sparsity=0.5, pattern="2:4", bits=4, group_size=16),
    "spqr": SpqrOptions(bits=3),
    "obc": ObcOptions(sparsity=0.5),
}


def readers(columns: int = 80, rows: tuple[int, ...] = (21, 7, 1), *, is_dead: bool = False) -> list[LayerProblem]:
    """Matrices of very unlike sizes, so that a threshold over all of them would empty the smallest."""
    X_NC = correlated_inputs(4 * columns, columns)
    if is_dead:
        X_NC[:, [3, 40]] = 0
    hessian = hessian_of(X_NC)
    return [LayerProblem(f"m{k}", random_weights(r, columns, k) * 10.0**-k, hessian) for k, r in enumerate(rows)]


@pytest.mark.parametrize("name", TOGETHER)
@pytest.mark.parametrize("is_dead", [False, True], ids=["all inputs alive", "dead inputs"])
def test_each_matrix_gets_what_it_gets_alone(name: str, is_dead: bool) -> None:
    layers = readers(is_dead=is_dead)
    together = solve_together(layers, TOGETHER[name])
    for layer, found in zip(layers, together, strict=True):
        alone = solve(layer, TOGETHER[name])
        assert (found.method, found.damp, found.fallbacks) == (alone.method, alone.damp, alone.fallbacks)
        assert type(found.weights) is type(alone.weights)
        if isinstance(found.weights, GridWeights) and isinstance(alone.weights, GridWeights):
            assert torch.equal(found.weights.codes_RC, alone.weights.codes_RC)
            assert torch.equal(found.weights.group_C, alone.weights.group_C)
        found_RC, alone_RC = found.weights.to_dense(), alone.weights.to_dense()
        assert torch.equal(found_RC == 0, alone_RC == 0)
        torch.testing.assert_close(found_RC, alone_RC, rtol=0, atol=1e-5 * float(layer.W_RC.abs().max()))


@pytest.mark.parametrize("sparsity", [0.1, 0.37, 0.5, 0.9])
def test_every_matrix_has_its_own_exact_count(sparsity: float) -> None:
    for layer, found in zip(readers(), solve_together(readers(), SparseGptOptions(sparsity=sparsity)), strict=True):
        assert int((found.weights.to_dense() == 0).sum()) == round(sparsity * layer.W_RC.numel())


@pytest.mark.parametrize("name", sorted(TOGETHER.keys() - {"spqr", "obc"}))  # which do not stack
def test_matrices_do_not_share_memory_afterwards(name: str) -> None:
    parts = [part for found in solve_together(readers(), TOGETHER[name]) for part in found.weights.tensors().values()]
    assert len({part.untyped_storage().data_ptr() for part in parts if part.numel()}) == sum(p.numel() > 0 for p in parts)


@pytest.mark.parametrize("name", TOGETHER)
def test_without_a_factor_each_falls_back_by_itself(name: str) -> None:
    layers = [LayerProblem(layer.name, layer.W_RC, Hessian(torch.zeros(80, 80), 0)) for layer in readers()]
    for layer, found in zip(layers, solve_together(layers, TOGETHER[name]), strict=True):
        alone = solve(layer, TOGETHER[name])
        assert found.fallbacks == alone.fallbacks and len(found.fallbacks) == 2
        assert torch.equal(found.weights.to_dense(), alone.weights.to_dense())


def test_readers_with_other_options_or_another_dtype_are_solved_apart() -> None:
    half, sparser = SparseGptOptions(sparsity=0.5), SparseGptOptions(sparsity=0.6)
    planned = [
        PlannedLayer(name, 0, Matrix(name, (4, 8), reads="x", stage=0), options)
        for name, options in (("q", half), ("k", sparser), ("v", SparseGptOptions(sparsity=0.5)), ("g", half))
    ]
    groups = alike(planned, lambda layer: torch.float32 if layer.name == "g" else torch.bfloat16)
    assert [[layer.name for layer in group] for group in groups] == [["q", "v"], ["k"], ["g"]]
