"""Methods as the pass calls them: float32 weights, a shared Hessian, options in; a marked solution out.

Weights are compared with the slow float64 loops of `brute_force`. Float32 sweeps differ from those by about 1e-6 of a weight:
a decision can only differ where two scores, or a weight and a rounding threshold, are as close as that. Seeds are fixed.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compression import methods  # noqa: F401  registers the solvers
from compression.hessian import Hessian
from compression.layer import LayerProblem, LayerSolution
from compression.options import (
    BITS,
    METHOD_OPTIONS,
    JointOptions,
    MagnitudeOptions,
    MethodOptions,
    ObcOptions,
    OptqOptions,
    RtnOptions,
    SparseGptOptions,
    SpqrOptions,
    WandaOptions,
    top_code,
)
from compression.registry import solve
from compression.weights import DenseWeights, GridWeights
from tests.compression import brute_force
from tests.compression.examples import few
from tests.compression.problems import correlated_inputs, hadamard, hessian_of, layer, output_error, random_weights

PRUNING = (MagnitudeOptions, WandaOptions, SparseGptOptions, ObcOptions)
EVERY_METHOD: dict[str, MethodOptions] = {
    "magnitude": MagnitudeOptions(sparsity=0.5),
    "magnitude 2:4": MagnitudeOptions(sparsity=0.5, pattern="2:4"),
    "wanda": WandaOptions(sparsity=0.5),
    "wanda 2:4": WandaOptions(sparsity=0.5, pattern="2:4"),
    "sparsegpt": SparseGptOptions(sparsity=0.5),
    "sparsegpt 2:4": SparseGptOptions(sparsity=0.5, pattern="2:4"),
    "rtn": RtnOptions(bits=4, group_size=16),
    "optq": OptqOptions(bits=4, group_size=16),
    "optq in storage order": OptqOptions(bits=4, group_size=16, act_order=False),
    "optq with dynamic groups": OptqOptions(bits=4, group_size=16, static_groups=False),
    "joint": JointOptions(sparsity=0.5, bits=4, group_size=16),
    "joint 2:4 by row": JointOptions(sparsity=0.5, pattern="2:4", bits=4, group_size="row"),
    "obc": ObcOptions(sparsity=0.5),
    "obc 2:4": ObcOptions(sparsity=0.5, pattern="2:4"),
    "obc 4 bit": ObcOptions(bits=4, group_size=16),
    "obc 50%, then 4 bit": ObcOptions(sparsity=0.5, bits=4, group_size=16),
    "spqr": SpqrOptions(bits=3, damp=0.01),
    "spqr in storage order": SpqrOptions(bits=4, damp=0.01, act_order=False),
}
every_method = pytest.mark.parametrize("options", EVERY_METHOD.values(), ids=EVERY_METHOD)
SPQR = {name for name, options in EVERY_METHOD.items() if isinstance(options, SpqrOptions)}  # weights of a kind of their own
WITH_COUSIN = {name: o for name, o in EVERY_METHOD.items() if hasattr(o, "damp") and name not in SPQR}
second_order = pytest.mark.parametrize(
    "options",
    [options for options in EVERY_METHOD.values() if hasattr(options, "damp")],
    ids=[name for name, options in EVERY_METHOD.items() if hasattr(options, "damp")],
)


def dense(problem: LayerProblem, options: MethodOptions) -> Tensor:
    return solve(problem, options).weights.to_dense()


def on_grid(problem: LayerProblem, options: MethodOptions) -> GridWeights:
    weights = solve(problem, options).weights
    assert isinstance(weights, GridWeights)
    return weights


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def zeros(W_RC: Tensor) -> int:
    return int((W_RC == 0).sum())


def test_the_methods_tried_here_are_all_there_are() -> None:
    assert {options.method for options in EVERY_METHOD.values()} == set(METHOD_OPTIONS)


# What holds for every method


@every_method
def test_solution_names_its_method_and_took_no_fallback(options: MethodOptions) -> None:
    solution = solve(layer(6, 32), options)
    assert solution.method == options.method
    assert solution.fallbacks == ()
    assert solution.damp == getattr(options, "damp", None)


@every_method
def test_same_problem_gives_the_same_bits_and_is_left_alone(options: MethodOptions) -> None:
    problem = layer(6, 32)
    W_RC, H_CC = problem.W_RC.clone(), problem.hessian.H_CC.clone()
    first = dense(problem, options)
    assert torch.equal(dense(LayerProblem("again", W_RC, Hessian(H_CC, 136)), options), first)
    assert torch.equal(problem.W_RC, W_RC)
    assert torch.equal(problem.hessian.H_CC, H_CC)
    assert not torch.equal(first, W_RC)


@every_method
def test_weights_may_be_a_view_in_another_storage_order(options: MethodOptions) -> None:
    problem = layer(6, 32)
    transposed = LayerProblem(problem.name, problem.W_RC.T.contiguous().T, problem.hessian)
    assert torch.equal(dense(transposed, options), dense(problem, options))


@every_method
@pytest.mark.parametrize("power", [-12, 8])
def test_factor_on_the_hessian_changes_nothing(options: MethodOptions, power: int) -> None:
    problem = layer(6, 32)
    scaled = LayerProblem(problem.name, problem.W_RC, Hessian(problem.hessian.H_CC * 4.0**power, problem.hessian.tokens))
    assert torch.equal(dense(scaled, options), dense(problem, options))


@every_method
def test_single_row_is_solved(options: MethodOptions) -> None:
    assert dense(layer(1, 32), options).shape == (1, 32)


@every_method
def test_row_of_zeros_stays_and_the_others_are_finite(options: MethodOptions) -> None:
    W_RC = random_weights(6, 32)
    W_RC[3] = 0
    solved = dense(layer(6, 32, W_RC=W_RC), options)
    assert not solved[3].any()
    assert torch.isfinite(solved).all()


@every_method
def test_matrix_of_zeros_stays(options: MethodOptions) -> None:
    assert not dense(layer(6, 32, W_RC=torch.zeros(6, 32)), options).any()


@every_method
def test_column_of_zero_weights_is_no_trouble(options: MethodOptions) -> None:
    W_RC = random_weights(6, 32)
    W_RC[:, 5] = 0
    assert torch.isfinite(dense(layer(6, 32, W_RC=W_RC), options)).all()


# Fallbacks


def nothing_seen(columns: int) -> Hessian:
    return Hessian(torch.zeros(columns, columns), 0)


def negative(columns: int) -> Hessian:
    return Hessian(-torch.eye(columns), 100)


def with_nan(columns: int) -> Hessian:
    return Hessian(torch.full((columns, columns), math.nan), 100)


COUSINS: dict[str, Callable[[Any], tuple[MethodOptions, ...]]] = {
    "sparsegpt": lambda o: (MagnitudeOptions(sparsity=o.sparsity, pattern=o.pattern),),
    "optq": lambda o: (RtnOptions(bits=o.bits, group_size=o.group_size, symmetric=o.symmetric, grid=o.grid),),
    "joint": lambda o: (
        MagnitudeOptions(sparsity=o.sparsity, pattern=o.pattern),
        RtnOptions(bits=o.bits, group_size=o.group_size, symmetric=o.symmetric, grid=o.grid),
    ),
    "obc": lambda o: (
        *([MagnitudeOptions(sparsity=o.sparsity, pattern=o.pattern)] if o.sparsity else []),
        *([RtnOptions(bits=o.bits, group_size=o.group_size, symmetric=o.symmetric, grid=o.grid)] if o.bits else []),
    ),
}


@pytest.mark.parametrize("options", WITH_COUSIN.values(), ids=WITH_COUSIN)
@pytest.mark.parametrize("make", [nothing_seen, negative, with_nan])
def test_without_a_factor_the_data_free_cousin_answers_and_says_so(options: Any, make: Callable[[int], Hessian]) -> None:
    W_RC, hessian, cousins = random_weights(6, 32), make(32), COUSINS[options.method](options)
    solution = solve(LayerProblem("layer", W_RC, hessian), options)
    expected = W_RC
    for cousin in cousins:
        expected = dense(LayerProblem("layer", expected, hessian), cousin)
    assert torch.equal(solution.weights.to_dense(), expected)
    assert solution.method == " + ".join(cousin.method for cousin in cousins)
    assert solution.damp is None
    assert solution.fallbacks[-1] == f"fell back to {solution.method}"
    reason = "no calibration token reached this layer" if make is nothing_seen else "not positive definite"
    assert reason in solution.fallbacks[0]
    assert len(solution.fallbacks) == (2 if make is nothing_seen else 7)


def test_wanda_without_inputs_is_magnitude_and_says_so() -> None:
    problem = LayerProblem("layer", random_weights(6, 32), nothing_seen(32))
    solution = solve(problem, WandaOptions(sparsity=0.4))
    assert torch.equal(solution.weights.to_dense(), dense(problem, MagnitudeOptions(sparsity=0.4)))
    assert solution.fallbacks == ("no calibration token reached this layer (0 tokens)", "fell back to magnitude")


@second_order
def test_damping_that_had_to_be_raised_is_reported(options: MethodOptions) -> None:
    direction_C = torch.ones(32) / math.sqrt(32)
    H_CC = torch.eye(32) - 1.05 * torch.outer(direction_C, direction_C)  # lowest eigenvalue -0.05
    solution = solve(LayerProblem("layer", random_weights(6, 32), Hessian(H_CC, 100)), options)
    assert solution.method == options.method
    assert solution.damp == pytest.approx(0.1)
    assert solution.fallbacks == ("not positive definite with damp 0.01 in float32",)


@second_order
def test_fewer_tokens_than_inputs_are_enough(options: MethodOptions) -> None:
    solution = solve(layer(6, 32, X_NC=correlated_inputs(3, 32)), options)
    assert solution.method == options.method
    assert torch.isfinite(solution.weights.to_dense()).all()


@second_order
def test_weights_of_dead_inputs_are_zeroed_and_the_rest_does_not_see_them(options: MethodOptions) -> None:
    X_NC = correlated_inputs(136, 32)
    X_NC[:, [4, 21]] = 0
    W_RC = random_weights(6, 32)
    alive = dense(layer(6, 32, W_RC=W_RC, X_NC=X_NC), options)
    W_RC[:, [4, 21]] = 1000
    found = dense(layer(6, 32, W_RC=W_RC, X_NC=X_NC), options)
    assert torch.equal(found, alive)
    if isinstance(options, SpqrOptions):  # its grids need not hold zero
        assert float(found[:, [4, 21]].abs().max()) < 0.25
    else:
        assert not found[:, [4, 21]].any()


# Exact counts


@few
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 40),
    sparsity=st.floats(0, 0.99),
    block_size=st.integers(1, 50),
    seed=st.integers(0, 3),
)
def test_unstructured_zeros_are_exactly_as_many_as_asked(
    rows: int, columns: int, sparsity: float, block_size: int, seed: int
) -> None:
    problem = layer(rows, columns, seed)
    for options in (
        MagnitudeOptions(sparsity=sparsity),
        WandaOptions(sparsity=sparsity),
        ObcOptions(sparsity=sparsity),
        SparseGptOptions(sparsity=sparsity, block_size=block_size),
    ):
        assert abs(zeros(dense(problem, options)) - sparsity * rows * columns) <= 0.5 + 1e-9


@pytest.mark.parametrize("method", PRUNING)
@pytest.mark.parametrize("value", [1.0, -0.25], ids=str)
def test_count_is_exact_when_all_weights_tie(method: type[Any], value: float) -> None:
    problem = layer(5, 31, W_RC=torch.full((5, 31), value), X_NC=math.sqrt(0.5) * torch.eye(31))
    assert zeros(dense(problem, method(sparsity=0.37))) == round(0.37 * 5 * 31)


@pytest.mark.parametrize("method", PRUNING)
@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (3, 4), (4, 8), (5, 6), (2, 3), (1, 16), (31, 32)])
@pytest.mark.parametrize("is_tied", [False, True], ids=["random", "tied"])
def test_every_group_of_m_keeps_exactly_n(method: type[Any], n: int, m: int, is_tied: bool) -> None:
    W_RC = random_weights(4, 96).sign() if is_tied else random_weights(4, 96)
    solved = dense(layer(4, 96, W_RC=W_RC), method(sparsity=1 - n / m, pattern=f"{n}:{m}"))
    assert ((solved != 0).unflatten(1, (-1, m)).sum(-1) == n).all()


@pytest.mark.parametrize("method", PRUNING)
def test_zero_sparsity_changes_no_bit(method: type[Any]) -> None:
    problem = layer(6, 32)
    assert torch.equal(dense(problem, method(sparsity=0)), problem.W_RC)


# Magnitude and Wanda


def test_magnitude_drops_the_smallest_of_the_whole_matrix_and_moves_nothing() -> None:
    problem = layer(6, 32)
    solved = dense(problem, MagnitudeOptions(sparsity=0.3))
    kept = solved != 0
    assert torch.equal(solved[kept], problem.W_RC[kept])
    assert float(problem.W_RC[~kept].abs().max()) < float(solved[kept].abs().min())


def test_wanda_compares_weight_times_input_norm_within_rows() -> None:
    X_NC = correlated_inputs(136, 32)
    problem = layer(6, 32, X_NC=X_NC)
    solved = dense(problem, WandaOptions(sparsity=0.5))
    for row in range(6):
        score = {c: abs(float(problem.W_RC[row, c])) * float(X_NC[:, c].double().norm()) for c in range(32)}
        dropped = sorted(score, key=lambda column: score[column])[:16]
        expected = problem.W_RC[row].clone()
        expected[dropped] = 0
        assert torch.equal(solved[row], expected)


# SparseGPT


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("block_size", [8, 11, 128])
def test_sparsegpt_is_the_obs_formula_with_blockwise_masks(sparsity: float, block_size: int) -> None:
    problem = layer(6, 32)
    H_CC = brute_force.damped(problem.hessian.H_CC, 0.02)
    found = dense(problem, SparseGptOptions(sparsity=sparsity, block_size=block_size, damp=0.02))
    assert_close(found, brute_force.obs(problem.W_RC, H_CC, brute_force.blockwise(H_CC, sparsity, block_size)))


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8"])
def test_sparsegpt_is_the_obs_formula_with_n_of_m_masks(pattern: str) -> None:
    problem = layer(6, 32)
    n, m = (int(number) for number in pattern.split(":"))
    H_CC = brute_force.damped(problem.hessian.H_CC, 0.01)
    found = dense(problem, SparseGptOptions(sparsity=1 - n / m, pattern=pattern))
    assert_close(found, brute_force.obs(problem.W_RC, H_CC, brute_force.groupwise(H_CC, n, m)))


def test_sparsegpt_moves_the_weights_that_stay() -> None:
    problem = layer(6, 32)
    solved = dense(problem, SparseGptOptions(sparsity=0.5))
    kept = solved != 0
    kept[:, 0] = False  # nothing comes before the first column
    assert ((solved != problem.W_RC) & kept).sum() > 0.9 * kept.sum()


@pytest.mark.parametrize("block_size", [8, 12, 128])
def test_sparsegpt_on_white_inputs_is_magnitude_pruning_in_each_block(block_size: int) -> None:
    problem = layer(6, 32, X_NC=hadamard(32))
    found = dense(problem, SparseGptOptions(sparsity=0.5, block_size=block_size))
    for first in range(0, 32, block_size):
        block_RB = problem.W_RC[:, first : first + block_size]
        part = LayerProblem("block", block_RB, problem.hessian)
        assert torch.equal(found[:, first : first + block_size], dense(part, MagnitudeOptions(sparsity=0.5)))


def test_sparsegpt_with_a_pattern_on_white_inputs_is_magnitude_pruning() -> None:
    problem = layer(6, 32, X_NC=hadamard(32))
    found = dense(problem, SparseGptOptions(sparsity=0.5, pattern="2:4"))
    assert torch.equal(found, dense(problem, MagnitudeOptions(sparsity=0.5, pattern="2:4")))


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_sparsegpt_loses_less_than_wanda_and_magnitude_on_correlated_inputs(pattern: str) -> None:
    def mean_error(method: type[Any]) -> float:
        problems = (layer(16, 32, seed) for seed in range(24))
        return sum(output_error(p, dense(p, method(sparsity=0.5, pattern=pattern))) for p in problems) / 24

    sparsegpt, wanda, magnitude = (mean_error(method) for method in (SparseGptOptions, WandaOptions, MagnitudeOptions))
    assert sparsegpt < 0.4 * min(wanda, magnitude), (sparsegpt, wanda, magnitude)


# Round to nearest and OPTQ


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group_size", [16, 32, "row"])
def test_rtn_takes_the_nearest_value_of_each_groups_grid(bits: Any, group_size: Any) -> None:
    problem = layer(4, 64)
    options = RtnOptions(bits=bits, group_size=group_size)
    size = group_size if isinstance(group_size, int) else 64
    decide = brute_force.rounded(problem.W_RC.double(), bits, size)
    expected = torch.stack([decide(problem.W_RC.double(), column) for column in range(64)], 1)
    torch.testing.assert_close(dense(problem, options).double(), expected, rtol=1e-5, atol=1e-6)  # float32 scales


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("act_order", [False, True], ids=["storage order", "act order"])
@pytest.mark.parametrize("static_groups", [False, True], ids=["dynamic", "static"])
def test_optq_on_white_inputs_is_exactly_rtn(bits: int, symmetric: bool, act_order: bool, static_groups: bool) -> None:
    problem = layer(6, 32, X_NC=hadamard(32))
    shared: dict[str, Any] = {"bits": bits, "group_size": 16, "symmetric": symmetric}
    found = on_grid(problem, OptqOptions(**shared, act_order=act_order, static_groups=static_groups))
    rtn = on_grid(problem, RtnOptions(**shared))
    assert torch.equal(found.codes_RC, rtn.codes_RC)
    assert torch.equal(found.to_dense(), rtn.to_dense())


def downdating_obq(W_RC: Tensor, H_CC: Tensor, decide: brute_force.Decide) -> Tensor:
    """OBQ in storage order: the whole inverse, from which each fixed weight is eliminated (a Schur step)."""
    W_RC, inverse = W_RC.double().clone(), torch.linalg.inv(H_CC)
    for column in range(W_RC.shape[1]):
        step_R = (W_RC[:, column] - decide(W_RC, column)) / inverse[column, column]
        W_RC -= torch.outer(step_R, inverse[column])
        inverse -= torch.outer(inverse[:, column], inverse[column]) / inverse[column, column]
    return W_RC


@pytest.mark.parametrize("columns", [1, 2, 5, 8])
@pytest.mark.parametrize("bits", [2, 4])
def test_optq_of_few_columns_is_obq_in_the_same_order(columns: int, bits: int) -> None:
    problem = layer(4, columns)
    H_CC = brute_force.damped(problem.hessian.H_CC, 0.01)
    decide = brute_force.rounded(problem.W_RC.double(), bits, columns)
    found = dense(problem, OptqOptions(bits=bits, group_size="row", act_order=False))
    assert_close(found, downdating_obq(problem.W_RC, H_CC, decide))


def optq_by_force(problem: LayerProblem, bits: int, size: int, *, act_order: bool, static_groups: bool) -> Tensor:
    """Columns permuted in plain sight, one at a time, and put back."""
    W_RC, H_CC = problem.W_RC.double(), brute_force.damped(problem.hessian.H_CC, 0.01)
    columns = range(W_RC.shape[1])
    order = sorted(columns, key=lambda c: -float(problem.hessian.H_CC[c, c])) if act_order else list(columns)
    by_storage = brute_force.rounded(W_RC, bits, size)
    by_visit = brute_force.rounded(W_RC[:, order], bits, size, dynamic=True)

    def decide(current_RC: Tensor, place: int) -> Tensor:
        if not static_groups:
            return by_visit(current_RC, place)
        return by_storage(current_RC[:, torch.tensor(order).argsort()], order[place])

    visited = brute_force.obs(W_RC[:, order], H_CC[order][:, order], decide)
    return visited[:, torch.tensor(order).argsort()]


@pytest.mark.parametrize("act_order", [False, True], ids=["storage order", "act order"])
@pytest.mark.parametrize("static_groups", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("block_size", [1, 7, 16, 24, 40, 128])
@pytest.mark.parametrize("group_size", [16, 48, "row"])
def test_optq_is_the_naive_loop(act_order: bool, static_groups: bool, block_size: int, group_size: Any) -> None:
    problem = layer(2, 48)
    options = OptqOptions(
        bits=3,
        group_size=group_size,
        act_order=act_order,
        static_groups=static_groups,
        block_size=block_size,
    )
    size = group_size if isinstance(group_size, int) else 48
    assert_close(dense(problem, options), optq_by_force(problem, 3, size, act_order=act_order, static_groups=static_groups))


@pytest.mark.parametrize("static_groups", [False, True], ids=["dynamic", "static"])
def test_act_order_of_equally_active_inputs_is_storage_order(static_groups: bool) -> None:
    H_CC = hessian_of(correlated_inputs(200, 32)).H_CC
    size_C = H_CC.diagonal().sqrt()
    H_CC = (H_CC / size_C[:, None] / size_C).fill_diagonal_(1)
    options = OptqOptions(bits=3, group_size=16, act_order=False, static_groups=static_groups)
    plain, ordered = (
        on_grid(LayerProblem("layer", random_weights(6, 32), Hessian(H_CC, 200)), chosen)
        for chosen in (options, options.model_copy(update={"act_order": True}))
    )
    assert torch.equal(plain.codes_RC, ordered.codes_RC)
    assert torch.equal(plain.group_C, ordered.group_C)
    assert torch.equal(plain.to_dense(), ordered.to_dense())


def test_static_groups_lie_in_storage_order_and_dynamic_ones_in_visiting_order() -> None:
    problem = layer(6, 64)
    static = on_grid(problem, OptqOptions(bits=4, group_size=16, act_order=True, static_groups=True))
    dynamic = on_grid(problem, OptqOptions(bits=4, group_size=16, act_order=True, static_groups=False))
    assert static.group_C.tolist() == [column // 16 for column in range(64)]
    order = sorted(range(64), key=lambda column: -float(problem.hessian.H_CC[column, column]))
    assert [int(dynamic.group_C[column]) for column in order] == [place // 16 for place in range(64)]


def test_static_grids_are_those_of_the_original_weights() -> None:
    problem = layer(6, 64)
    optq = on_grid(problem, OptqOptions(bits=4, group_size=16))
    rtn = on_grid(problem, RtnOptions(bits=4, group_size=16))
    assert torch.equal(optq.scale_RG, rtn.scale_RG)
    assert torch.equal(optq.zero_RG, rtn.zero_RG)
    assert not torch.equal(optq.codes_RC, rtn.codes_RC)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("act_order", [False, True], ids=["storage order", "act order"])
def test_optq_loses_less_than_rtn_on_correlated_inputs(bits: int, act_order: bool) -> None:
    problems = [layer(16, 32, seed) for seed in range(24)]
    optq = sum(output_error(p, dense(p, OptqOptions(bits=bits, group_size="row", act_order=act_order))) for p in problems)
    rtn = sum(output_error(p, dense(p, RtnOptions(bits=bits, group_size="row"))) for p in problems)
    assert optq < 0.4 * rtn, (optq / 24, rtn / 24)


@pytest.mark.parametrize("static_groups", [False, True], ids=["dynamic", "static"])
def test_searched_grids_lose_less_than_minmax_ones_at_two_bits(static_groups: bool) -> None:
    def error(grid: Any) -> float:
        options = OptqOptions(bits=2, group_size=32, grid=grid, static_groups=static_groups)
        return sum(output_error(p, dense(p, options)) for p in (layer(8, 64, seed) for seed in range(8)))

    assert error("mse") < error("minmax")


# Codes and grids of every quantising method


QUANTIZING = {name: options for name, options in EVERY_METHOD.items() if options.quantization}
quantizing = pytest.mark.parametrize("options", QUANTIZING.values(), ids=QUANTIZING)


@quantizing
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("grid", ["minmax", "mse"])
@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_codes_are_in_range_and_scales_are_what_the_file_can_hold(
    options: MethodOptions, bits: int, symmetric: bool, grid: str, scale_dtype: torch.dtype
) -> None:
    options = options.model_copy(update={"bits": bits, "symmetric": symmetric, "grid": grid})
    weights = on_grid(layer(3, 32, scale_dtype=scale_dtype), options)
    assert weights.codes_RC.dtype == torch.uint8
    assert weights.codes_RC.shape == (3, 32)
    assert weights.codes_RC.is_contiguous()
    assert int(weights.codes_RC.max()) < 2**bits
    assert weights.bits == bits
    assert weights.scale_RG.shape == weights.zero_RG.shape == (3, int(weights.group_C.max()) + 1)
    assert torch.equal(weights.scale_RG.to(scale_dtype).float(), weights.scale_RG)
    assert torch.equal(weights.zero_RG.to(torch.uint8).float(), weights.zero_RG)
    assert not symmetric or (weights.zero_RG == 2 ** (bits - 1)).all()


@quantizing
def test_every_weight_is_a_value_of_its_stored_grid_to_the_last_bit(options: MethodOptions) -> None:
    weights = on_grid(layer(6, 32, scale_dtype=torch.bfloat16), options)
    solved = weights.to_dense()
    for row in range(6):
        for column in range(32):
            group = int(weights.group_C[column])
            scale, zero = weights.scale_RG[row, group], int(weights.zero_RG[row, group])
            values = scale * torch.tensor([float(code - zero) for code in range(top_code(weights.bits) + 1)])
            assert solved[row, column] in values


@pytest.mark.parametrize("method", [RtnOptions, OptqOptions])
def test_static_scales_are_rounded_to_storage_before_any_weight_is(method: type[Any]) -> None:
    problem = layer(6, 32)
    stored = LayerProblem(problem.name, problem.W_RC, problem.hessian, torch.bfloat16)
    options = method(bits=4, group_size=16)
    exact, found = on_grid(problem, options), on_grid(stored, options)
    assert torch.equal(found.scale_RG, exact.scale_RG.bfloat16().float())
    assert not torch.equal(found.scale_RG, exact.scale_RG)
    if method is RtnOptions:
        scale_RC, zero_RC = found.scale_RG.repeat_interleave(16, 1), found.zero_RG.repeat_interleave(16, 1)
        assert torch.equal(found.codes_RC, ((problem.W_RC / scale_RC).round() + zero_RC).clamp(0, 15).to(torch.uint8))


# Joint


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
@pytest.mark.parametrize("group_size", [16, 32])
@pytest.mark.parametrize("block_size", [8, 20, 128])
def test_joint_prunes_then_rounds_as_the_naive_loop_does(pattern: str, group_size: int, block_size: int) -> None:
    problem = layer(4, 32)
    H_CC = brute_force.damped(problem.hessian.H_CC, 0.01)
    options = JointOptions(sparsity=0.5, pattern=pattern, bits=4, group_size=group_size, block_size=block_size)
    # Blocks are cut at groups, and an unstructured mask is chosen for each block: 20 columns hold one group of 16.
    block = min(block_size, group_size) if block_size < 128 else 32
    prune = brute_force.groupwise(H_CC, 2, 4) if pattern == "2:4" else brute_force.blockwise(H_CC, 0.5, block)
    snap = brute_force.rounded(problem.W_RC.double(), 4, group_size, dynamic=True)
    assert_close(dense(problem, options), brute_force.obs(problem.W_RC, H_CC, brute_force.then(prune, snap)))


@few
@given(
    rows=st.integers(1, 6),
    groups=st.integers(1, 3),
    sparsity=st.floats(0, 0.99),
    bits=st.sampled_from(BITS),
    block_size=st.integers(1, 60),
)
def test_joint_zeros_are_exact_and_at_least_as_many_as_asked(
    rows: int, groups: int, sparsity: float, bits: int, block_size: int
) -> None:
    problem = layer(rows, 16 * groups)
    options = JointOptions(sparsity=sparsity, bits=bits, group_size=16, block_size=block_size)
    assert zeros(dense(problem, options)) >= sparsity * rows * 16 * groups - 0.5 - 1e-9


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (1, 2), (1, 16)])
@pytest.mark.parametrize("group_size", [16, "row"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_joint_keeps_the_pattern_on_the_grid(n: int, m: int, group_size: Any, bits: Any) -> None:
    weights = on_grid(layer(4, 48), JointOptions(sparsity=1 - n / m, pattern=f"{n}:{m}", bits=bits, group_size=group_size))
    zero_RC = weights.zero_RG[:, weights.group_C.long()]
    assert ((weights.codes_RC != zero_RC).unflatten(1, (-1, m)).sum(-1) <= n).all()
    assert torch.equal(weights.codes_RC == zero_RC, weights.to_dense() == 0)


def test_joint_at_zero_sparsity_is_optq() -> None:
    problem = layer(6, 32)
    joint = on_grid(problem, JointOptions(sparsity=0, bits=4, group_size=16))
    optq = on_grid(problem, OptqOptions(bits=4, group_size=16, act_order=False, static_groups=False))
    assert torch.equal(joint.codes_RC, optq.codes_RC)
    assert torch.equal(joint.to_dense(), optq.to_dense())


def test_joint_loses_less_than_pruning_and_rounding_without_updates() -> None:
    def together(p: LayerProblem) -> Tensor:
        return dense(p, JointOptions(sparsity=0.5, bits=4, group_size=16))

    def apart(p: LayerProblem) -> Tensor:
        pruned = LayerProblem(p.name, dense(p, WandaOptions(sparsity=0.5)), p.hessian)
        return dense(pruned, RtnOptions(bits=4, group_size=16))

    problems = [layer(16, 32, seed) for seed in range(20)]
    assert sum(output_error(p, together(p)) for p in problems) < 0.5 * sum(output_error(p, apart(p)) for p in problems)


def test_solutions_of_pruning_are_dense_and_of_quantising_are_codes() -> None:
    problem = layer(6, 32)
    solutions: dict[str, LayerSolution] = {name: solve(problem, options) for name, options in EVERY_METHOD.items()}
    assert {name for name, solution in solutions.items() if isinstance(solution.weights, GridWeights)} == set(QUANTIZING)
    assert all(isinstance(solutions[name].weights, DenseWeights) for name in solutions.keys() - QUANTIZING - SPQR)
