"""The method obc as the pass calls it: its place among the others, patterns, pruning then rounding, and a whole model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from compression import methods  # noqa: F401  registers the solvers
from compression.compress import compress
from compression.errors import VerificationError
from compression.families import Matrix
from compression.hessian import Hessian
from compression.layer import LayerProblem
from compression.models.checkpoint import Checkpoint
from compression.options import (
    MagnitudeOptions,
    MethodOptions,
    ObcOptions,
    RtnOptions,
    SparseGptOptions,
    WandaOptions,
)
from compression.plan import PlannedLayer
from compression.protocol import Calibration, Evaluation
from compression.registry import solve
from compression.verification import check_pattern
from compression.weights import GridWeights
from tests import tiny_models
from tests.compression.problems import layer, output_error, random_weights

SEEDS = range(24)


def dense(problem: LayerProblem, options: MethodOptions) -> torch.Tensor:
    return solve(problem, options).weights.to_dense()


def mean_error(options: MethodOptions) -> float:
    return sum(output_error(p, dense(p, options)) for p in (layer(16, 32, seed) for seed in SEEDS)) / len(SEEDS)


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4:8"])
def test_layer_errors_are_in_the_order_that_theory_predicts(pattern: str) -> None:
    pruning_methods = (ObcOptions, SparseGptOptions, WandaOptions, MagnitudeOptions)
    obc, sparsegpt, wanda, magnitude = (mean_error(method(sparsity=0.5, pattern=pattern)) for method in pruning_methods)
    assert obc < 0.9 * sparsegpt, (obc, sparsegpt)
    assert sparsegpt < wanda < magnitude, (sparsegpt, wanda, magnitude)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_rounding_greedily_loses_much_less_than_rounding_to_nearest(bits: Any) -> None:
    obq, rtn = (mean_error(method(bits=bits, group_size="row")) for method in (ObcOptions, RtnOptions))
    assert obq < 0.4 * rtn, (obq, rtn)


def test_blocks_go_whole_and_in_exact_number_and_lose_less_than_by_magnitude() -> None:
    options = ObcOptions(sparsity=0.4, pattern="block:4")
    lost = least = 0.0
    for seed in SEEDS:
        problem = layer(10, 32, seed)
        found = dense(problem, options)
        by_block = (found == 0).unflatten(1, (-1, 4)).sum(-1)
        assert set(by_block.flatten().tolist()) == {0, 4}
        assert int((by_block == 4).sum()) == round(0.4 * 80)
        unseen = LayerProblem("layer", problem.W_RC, Hessian(torch.zeros(32, 32), 0))
        data_free = solve(unseen, options)
        assert data_free.method == "magnitude"
        assert int((data_free.weights.to_dense() == 0).unflatten(1, (-1, 4)).all(-1).sum()) == 32
        lost += output_error(problem, found)
        least += output_error(problem, data_free.weights.to_dense())
    assert lost < 0.5 * least


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "block:4"])
@pytest.mark.parametrize("bits", [3, 8, "ternary"])
def test_pruned_then_rounded_weights_have_the_mask_of_the_pruning(pattern: str, bits: Any) -> None:
    problem = layer(6, 64)
    pruned = dense(problem, ObcOptions(sparsity=0.5, pattern=pattern))
    weights = solve(problem, ObcOptions(sparsity=0.5, pattern=pattern, bits=bits, group_size=16)).weights
    assert isinstance(weights, GridWeights)
    zero_RC = weights.zero_RG[:, weights.group_C.long()]
    assert torch.equal((weights.codes_RC == zero_RC) & (pruned == 0), pruned == 0)
    assert not weights.to_dense()[pruned == 0].any()


def indefinite_but_for_round_off() -> Hessian:
    """A Hessian that float32 factorises as it stands and float64 does not."""
    for step in range(1000):
        ratio = 1 + step / 1000
        H_CC = torch.eye(32)
        H_CC[:2, :2] = torch.tensor([[1.0, ratio], [ratio, ratio**2]])
        hessian = Hessian(H_CC, 100)
        _, failed = torch.linalg.cholesky_ex(hessian.damped(1e-30, torch.float64))
        if int(failed) and hessian.factor(1e-30).steps == ():
            return hessian
    raise AssertionError("no such matrix was found")


def test_round_off_that_breaks_an_inverse_is_a_fallback_and_not_an_answer() -> None:
    problem = LayerProblem("layer", random_weights(4, 32), indefinite_but_for_round_off())
    solution = solve(problem, ObcOptions(sparsity=0.5, damp=1e-30))
    assert solution.method == "magnitude"
    assert solution.fallbacks == ("not positive definite with damp 1e-30 in float64", "fell back to magnitude")
    assert torch.equal(solution.weights.to_dense(), dense(problem, MagnitudeOptions(sparsity=0.5)))


@pytest.mark.parametrize("pattern", ["2:4", "block:4"])
def test_a_written_file_without_the_promised_pattern_is_found_out(pattern: str) -> None:
    options, W_RC = ObcOptions(sparsity=0.5, pattern=pattern), random_weights(2, 8)
    planned = PlannedLayer("layer", 0, Matrix("layer", (2, 8), "input", 0), options)
    good_RC, bad_RC = W_RC.clone(), W_RC.clone()
    if pattern == "2:4":
        good_RC.view(4, 4)[:, :2] = 0
    else:
        good_RC[:, :4] = 0
    bad_RC[:, 1:5] = 0  # as many zeros, in the wrong places
    check_pattern(planned, good_RC)
    with pytest.raises(VerificationError, match="layer: the file"):
        check_pattern(planned, bad_RC)


def test_options_need_a_target() -> None:
    with pytest.raises(ValidationError, match="obc needs sparsity, bits, or both"):
        ObcOptions()


@pytest.mark.parametrize(
    "recipe",
    [{"sparsity": 0.5, "pattern": "block:4"}, {"pattern": "2:4", "bits": 4}, {"bits": 3, "group_size": 16}],
    ids=["blocks", "2:4 then 4 bit", "3 bit"],
)
def test_whole_pass_ends_verified_with_the_targets_met(recipe: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    text = tmp_path / "text.txt"
    text.write_text(tiny_models.text())
    report = compress(
        folder,
        {"method": "obc", **recipe},
        tmp_path / "out",
        calibration=Calibration(source=str(text), nsamples=4, seqlen=32),
        evaluation=Evaluation(sources=(str(text),), windows=2, seqlen=32),
        device="cpu",
    )
    assert report.verification.verdict == "ok"
    assert {row.status for row in report.coverage} == {"solved"}
    assert {layer.bits for layer in report.layers} == {recipe.get("bits")}
    saved = Checkpoint(tmp_path / "out")
    for result in report.layers:
        assert result.damp == 0.01
        zero_RC = saved.read([f"{result.name}.weight"])[f"{result.name}.weight"] == 0
        if recipe.get("pattern") == "block:4":
            assert set(zero_RC.unflatten(1, (-1, 4)).sum(-1).flatten().tolist()) == {0, 4}
            assert result.sparsity == 0.5
        if recipe.get("pattern") == "2:4":
            assert int((~zero_RC).unflatten(1, (-1, 4)).sum(-1).max()) <= 2
