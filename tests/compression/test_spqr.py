"""SpQR against itself in loops (explicit inverses, refits for every weight left out), and what it promises.

The loops work in float64 and take the sweep's own dtype where they compare with it, so that both decide alike.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compression.hessian import Hessian
from compression.layer import LayerProblem
from compression.methods.spqr import DATA_FREE
from compression.obs import sweep
from compression.options import OptqOptions, SpqrOptions
from compression.registry import solve
from compression.spqr_rounder import SpqrRounder
from compression.spqr_weights import SpqrWeights
from tests.compression import brute_force
from tests.compression.problems import correlated_inputs, hessian_of, layer, output_error, random_weights, seeded
from tests.compression.test_spqr_grid import naive_usefulness, table

NO_OUTLIERS = 1e9


def solved(problem: LayerProblem, **options: Any) -> SpqrWeights:
    weights = solve(problem, SpqrOptions(**{"bits": 3, "damp": 0.01} | options)).weights
    assert isinstance(weights, SpqrWeights)
    return weights


class Naive:
    """The whole method by loops, on weights and a damped Hessian in the order of the sweep, both float64."""

    def __init__(self, W_RC: Tensor, H_CC: Tensor, options: SpqrOptions) -> None:
        self.options = options
        self.rows, self.columns = W_RC.shape
        self.size = options.group_size if isinstance(options.group_size, int) else self.columns
        self.d_C = [float(torch.linalg.inv(H_CC[c:, c:])[0, 0]) ** 0.5 for c in range(self.columns)]
        spread = [float(W_RC[:, c].var()) / self.d_C[c] ** 2 for c in range(self.columns)]
        self.threshold = options.outlier_threshold * sum(spread) / len(spread)
        self.codes: dict[tuple[int, int], int] = {}
        self.outliers: set[tuple[int, int]] = set()
        self.grids: list[tuple[float, float]] = []
        self.W_RC = brute_force.obs(W_RC, H_CC, self.decide)

    def decide(self, W_RC: Tensor, column: int) -> Tensor:
        if column % self.size == 0:
            self.fit(W_RC[:, column : column + self.size], self.d_C[column : column + self.size])
        values = [self.one(float(W_RC[row, column]), row, column) for row in range(self.rows)]
        return torch.tensor(values, dtype=torch.float64)

    def one(self, weight: float, row: int, column: int) -> float:
        scale, zero = self.grids[row]
        code = int(np.clip(np.round(weight / scale + zero), 0, 2**self.options.bits - 1))
        value = float(np.float16(scale) * (np.float16(code) - np.float16(zero)))
        self.codes[row, column] = code
        if ((weight - value) / self.d_C[column]) ** 2 > self.threshold:
            self.outliers.add((row, column))
            return value + float(np.float16(weight - value))
        return value

    def fit(self, W_RS: Tensor, d_S: list[float]) -> None:
        first = [brute_force.fractional_grid(self.without_harmful(w_S, d_S), self.options.bits) for w_S in W_RS.tolist()]
        scales = self.second([scale for scale, _ in first], self.options.qq_scale_bits, is_positive=True)
        zeros = self.second([zero for _, zero in first], self.options.qq_zero_bits, is_positive=False)
        self.grids = list(zip(scales, zeros, strict=True))

    def without_harmful(self, w_S: list[float], d_S: list[float]) -> list[float]:
        harm = naive_usefulness(w_S, d_S, self.options.bits)
        stay = [w for w, h in zip(w_S, harm, strict=True) if not h > self.threshold]
        if not stay:
            return w_S
        return [sum(stay) / len(stay) if h > self.threshold else w for w, h in zip(w_S, harm, strict=True)]

    def second(self, values: list[float], bits: int, *, is_positive: bool) -> list[float]:
        found: list[float] = []
        for first in range(0, self.rows, self.options.qq_group_size):
            run = values[first : first + self.options.qq_group_size]
            low, high = min(run), max(run)
            step = float(np.float16(max((high - low) / (2**bits - 1), max(abs(low), abs(high)) / 1024)))
            offered = table(step, -low / step, bits) if low < high else [float(np.float16(low))]
            allowed = [value for value in offered if value > 0 or not is_positive]
            found += [min(allowed, key=lambda offer: abs(offer - value)) for value in run]
        return found


def in_float64(problem: LayerProblem, options: SpqrOptions) -> tuple[SpqrWeights, Tensor, Tensor, Tensor]:
    """The method's sweep in float64: its weights, the swept matrix, and what the loops need."""
    W_RC, H_CC = problem.W_RC.double(), brute_force.damped(problem.hessian.H_CC, 0.01)
    U_CC = brute_force.upper_factor(H_CC)
    rounder = SpqrRounder(W_RC, U_CC, options)
    swept = sweep(W_RC, U_CC, pruner=None, rounder=rounder, block_size=options.block_size)
    return rounder.weights(None), swept.W_RC, W_RC, H_CC


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize(
    ("rows", "columns", "options"),
    [
        (9, 32, {"qq_group_size": 4}),
        (9, 40, {"qq_group_size": 16, "qq_scale_bits": 4, "qq_zero_bits": 2}),  # a short last group, and run
        (5, 48, {"qq_group_size": 2, "block_size": 20}),
        (4, 24, {"group_size": "row", "outlier_threshold": 0.02}),
        (4, 32, {"outlier_threshold": NO_OUTLIERS}),
    ],
    ids=["runs of 4", "short ends", "small blocks", "by row", "no outliers"],
)
def test_spqr_is_the_naive_loop(bits: Any, rows: int, columns: int, options: dict[str, Any]) -> None:
    chosen = SpqrOptions(bits=bits, act_order=False, **options)
    found, swept_RC, W_RC, H_CC = in_float64(layer(rows, columns), chosen)
    naive = Naive(W_RC, H_CC, chosen)
    outliers = set(zip(found.outlier_rows().tolist(), found.outlier_columns.tolist(), strict=True))
    assert {place: int(found.codes_RC[place]) for place in naive.codes} == naive.codes
    assert outliers == naive.outliers
    assert bool(outliers) == (chosen.outlier_threshold < NO_OUTLIERS)
    torch.testing.assert_close(swept_RC, naive.W_RC, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("bits", [3, 4])
def test_method_in_float32_is_the_naive_loop_in_the_order_of_activity(act_order: bool, bits: Any) -> None:
    problem = layer(6, 32)
    options = SpqrOptions(bits=bits, damp=0.02, act_order=act_order)
    order = sorted(range(32), key=lambda c: -float(problem.hessian.H_CC[c, c])) if act_order else list(range(32))
    H_CC = brute_force.damped(problem.hessian.H_CC, 0.02)[order][:, order]
    naive = Naive(problem.W_RC.double()[:, order], H_CC, options)
    found = solve(problem, options).weights.to_dense()
    torch.testing.assert_close(found[:, order].double(), naive.W_RC, rtol=1e-3, atol=1e-4)  # the outliers' float16


@pytest.mark.parametrize("bits", [3, 4])
def test_without_outliers_and_second_level_it_is_optq_on_the_same_grids(bits: Any) -> None:
    options = SpqrOptions(bits=bits, group_size="row", qq_group_size=1, outlier_threshold=NO_OUTLIERS, act_order=False)
    problem = layer(6, 32)
    _, swept_RC, W_RC, H_CC = in_float64(problem, options)
    grids = [brute_force.fractional_grid(w_C, bits) for w_C in W_RC.tolist()]
    stored = [(float(np.float16(scale)), float(np.float16(zero))) for scale, zero in grids]

    def decide(current_RC: Tensor, column: int) -> Tensor:
        values = [brute_force.fractional_nearest(float(current_RC[r, column]), *stored[r], bits)[1] for r in range(6)]
        return torch.tensor(values, dtype=torch.float64)

    torch.testing.assert_close(swept_RC, brute_force.obs(W_RC, H_CC, decide), rtol=2e-3, atol=2e-3)  # values in float16


@pytest.mark.parametrize("bits", [3, 4])
def test_without_outliers_and_second_level_it_loses_what_optq_loses(bits: Any) -> None:
    options = SpqrOptions(
        bits=bits, group_size="row", qq_group_size=1, outlier_threshold=NO_OUTLIERS, act_order=False, damp=0.01
    )
    # Grids from the least to the greatest weight here too, but with a float16 minimum in place of a float16 zero point.
    optq = OptqOptions(bits=bits, group_size="row", act_order=False, static_groups=False, offset="minimum")
    problems = [layer(32, 64, seed) for seed in range(8)]
    by_spqr, by_optq = (sum(output_error(p, solve(p, o).weights.to_dense()) for p in problems) for o in (options, optq))
    assert by_spqr == pytest.approx(by_optq, rel=0.03)


def test_threshold_of_zero_keeps_every_weight() -> None:
    problem = layer(20, 48)
    weights = solved(problem, outlier_threshold=0)
    assert weights.outlier_share > 0.99
    half_a_step = 0.5 * float(weights.scale_RG().max())
    # What is left is the rounding of corrections to float16; few are larger than half a step.
    assert float((weights.to_dense() - problem.W_RC).abs().max()) < 2**-11 * 8 * half_a_step
    assert output_error(problem, weights.to_dense()) < 1e-6 * output_error(problem, torch.zeros(20, 48))


def test_smaller_threshold_keeps_more_outliers_and_loses_less() -> None:
    thresholds = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, NO_OUTLIERS)
    problems = [layer(32, 64, seed) for seed in range(6)]
    shares, errors = [], []
    for threshold in thresholds:
        weights = [solved(problem, outlier_threshold=threshold) for problem in problems]
        shares.append(sum(found.outlier_share for found in weights))
        errors.append(sum(output_error(p, w.to_dense()) for p, w in zip(problems, weights, strict=True)))
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0
    assert errors == sorted(errors)


def planted(seed: int, rows: int = 128, columns: int = 256) -> tuple[LayerProblem, Tensor]:
    """One weight in a hundred is ten times as large; a mask says which."""
    W_RC = random_weights(rows, columns, seed)
    is_planted_RC = torch.rand(rows, columns, generator=seeded(seed + 50)) < 0.01
    return layer(rows, columns, seed, W_RC=torch.where(is_planted_RC, 10 * W_RC, W_RC)), is_planted_RC


@pytest.mark.parametrize(("bits", "group_size"), [(3, 64), (4, 16)])
def test_planted_outliers_are_found_and_the_error_is_below_optqs_at_the_same_bits(bits: Any, group_size: int) -> None:
    spqr_error = optq_error = 0.0
    found = asked = 0
    for seed in range(3):
        problem, is_planted_RC = planted(seed)
        spqr = solved(problem, bits=bits)
        optq = solve(problem, OptqOptions(bits=4, group_size=group_size)).weights
        assert spqr.stored_bits() < optq.stored_bits()
        spqr_error += output_error(problem, spqr.to_dense())
        optq_error += output_error(problem, optq.to_dense())
        assert spqr.order_C is not None
        is_outlier_RC = torch.zeros_like(is_planted_RC)
        is_outlier_RC[spqr.outlier_rows(), spqr.order_C.long()[spqr.outlier_columns.long()]] = True
        is_large_RC = is_planted_RC & (problem.W_RC.abs() > 5)  # ten times a small weight is no outlier
        found += int((is_outlier_RC & is_large_RC).sum())
        asked += int(is_large_RC.sum())
    assert spqr_error < 0.6 * optq_error, (spqr_error, optq_error)
    assert found > 0.9 * asked, (found, asked)


def every_shape() -> Any:
    return pytest.mark.parametrize(
        ("rows", "columns", "options"),
        [(32, 64, {}), (20, 40, {"qq_group_size": 8}), (1, 17, {}), (5, 32, {"group_size": "row", "act_order": False})],
        ids=["whole tiles", "short ends", "one row", "by row"],
    )


@every_shape()
def test_values_are_those_that_the_sweep_counted_to_the_last_bit(rows: int, columns: int, options: dict[str, Any]) -> None:
    problem = layer(rows, columns)
    chosen = SpqrOptions(**{"bits": 3, "outlier_threshold": 0.1} | options | {"act_order": False})
    U_CC = problem.hessian.factor(chosen.damp).U_CC
    rounder = SpqrRounder(problem.W_RC, U_CC, chosen)
    swept = sweep(problem.W_RC, U_CC, pruner=None, rounder=rounder, block_size=chosen.block_size)
    assert torch.equal(rounder.weights(None).to_dense(), swept.W_RC)


@every_shape()
def test_parts_make_the_same_weights_again(rows: int, columns: int, options: dict[str, Any]) -> None:
    weights = solved(layer(rows, columns), **options)
    again = SpqrWeights.from_tensors({name: tensor.clone() for name, tensor in weights.tensors().items()})
    assert torch.equal(again.to_dense(), weights.to_dense())
    assert again.stored_bits() == weights.stored_bits()
    assert again.tensors().keys() == weights.tensors().keys()
    assert (again.bits, again.group_size, again.qq_group_size, again.qq_bits) == (
        weights.bits,
        weights.group_size,
        weights.qq_group_size,
        weights.qq_bits,
    )


def test_output_is_that_of_gathered_inputs_dense_part_and_sparse_part() -> None:
    """What a kernel does: gather the inputs, multiply with the grid's values, add the outliers' products."""
    problem = layer(20, 40)
    weights = solved(problem, outlier_threshold=0.1)
    x_C = torch.randn(40, generator=seeded(9)).double()
    assert weights.order_C is not None
    gathered = x_C[weights.order_C.long()]
    y_R = torch.zeros(20, dtype=torch.float64)
    for row in range(20):
        for column in range(40):
            scale, zero = weights.scale_RG()[row, column // 16], weights.zero_RG()[row, column // 16]
            value = np.float16(scale) * (np.float16(weights.codes_RC[row, column]) - np.float16(zero))
            y_R[row] += float(value) * gathered[column]
        for place in range(int(weights.row_offsets[row]), int(weights.row_offsets[row + 1])):
            y_R[row] += float(weights.outlier_values[place]) * gathered[int(weights.outlier_columns[place])]
    torch.testing.assert_close(weights.to_dense().double() @ x_C, y_R, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("threshold", [0.05, NO_OUTLIERS])
def test_bits_are_the_papers_formula_and_the_indices(bits: Any, threshold: float) -> None:
    rows, columns = 64, 96
    weights = solved(layer(rows, columns), bits=bits, outlier_threshold=threshold)
    formula = bits + (3 + 3) / 16 + 64 / (16 * 16) + 32 * weights.outlier_share
    indices = (32 * (rows + 1) + 16 * columns) / (rows * columns)
    assert weights.stored_bits() / (rows * columns) == pytest.approx(formula + indices, rel=1e-12)


def test_bits_count_every_part_once() -> None:
    weights = solved(layer(21, 40), qq_group_size=8, qq_scale_bits=4, qq_zero_bits=2)
    width = {"codes": 3, "scale_codes": 4, "zero_codes": 2, "meta": 16, "row_offsets": 32, "order": 16}
    width |= {"outlier_columns": 16, "outlier_values": 16}
    parts = {name: tensor for name, tensor in weights.tensors().items() if name != "numbers"}
    assert weights.stored_bits() == sum(width[name] * tensor.numel() for name, tensor in parts.items())


def test_outliers_lie_in_rising_order_and_none_is_zero() -> None:
    weights = solved(layer(20, 48), outlier_threshold=0.05)
    places = weights.outlier_rows() * 48 + weights.outlier_columns
    assert (places.diff() > 0).all()
    assert (weights.outlier_values != 0).all()
    assert weights.outlier_values.dtype == weights.meta_4TG.dtype == torch.float16


@pytest.mark.parametrize("tokens", [0, 100])
def test_without_a_factor_the_same_grids_round_to_nearest(tokens: int) -> None:
    W_RC = random_weights(20, 40)
    hessian = Hessian(torch.zeros(40, 40) if tokens == 0 else -torch.eye(40), tokens)
    solution = solve(LayerProblem("layer", W_RC, hessian), SpqrOptions(bits=3))
    white = LayerProblem("layer", W_RC, Hessian(torch.eye(40), 100))
    expected = solve(white, SpqrOptions(bits=3, act_order=False)).weights.to_dense()
    assert torch.equal(solution.weights.to_dense(), expected)
    assert solution.method == DATA_FREE
    assert solution.damp is None
    assert solution.fallbacks[-1] == f"fell back to {DATA_FREE}"


def test_default_threshold_follows_the_bits_and_keeps_about_one_weight_in_a_hundred() -> None:
    assert [SpqrOptions(bits=bits).outlier_threshold for bits in (2, 3, 4)] == [1.2, 0.3, 0.075]
    for bits in (2, 3, 4):
        shares = [solved(layer(64, 128, seed), bits=bits, damp=1.0).outlier_share for seed in range(3)]
        assert 0.002 < sum(shares) / 3 < 0.02, (bits, shares)


def test_heavier_damping_is_accepted_from_the_start() -> None:
    solution = solve(LayerProblem("layer", random_weights(6, 32), hessian_of(correlated_inputs(3, 32))), SpqrOptions(bits=3))
    assert solution.damp == 1.0
    assert solution.fallbacks == ()
