"""Asymmetric calibration: the target against plain least squares, and the pass against models that are whole in memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from compression.block import solve_matrix
from compression.compress import compress
from compression.drift import PairedAccumulator, Turn, target
from compression.errors import Cancelled, InvalidOptions
from compression.events import Event, LayerFinished
from compression.hessian import Hessian
from compression.models.checkpoint import Checkpoint
from compression.plan import plan
from compression.protocol import Calibration, Evaluation
from compression.recipe import parse_recipe, resolve
from compression.report import Report
from tests import tiny_models
from tests.compression.problems import correlated_inputs, random_weights

WINDOWS, SEQLEN = 6, 32
RECIPE: dict[str, Any] = {"bits": 3, "group_size": 32, "asymmetric_calibration": 0.5}


def hessian(dense_NC: Tensor, X_NC: Tensor, window: int = 16) -> Hessian:
    turn = Turn()
    accumulator = PairedAccumulator(X_NC.shape[1], torch.device("cpu"), turn)
    for dense, compressed in zip(dense_NC.split(window), X_NC.split(window), strict=True):
        for turn.is_dense, X in ((True, dense), (False, compressed)):
            accumulator.add(X[None])
    return accumulator.finish("layer")


def streams(columns: int = 12) -> tuple[Tensor, Tensor]:
    dense_NC = correlated_inputs(8 * columns, columns)
    return dense_NC, dense_NC + 0.2 * correlated_inputs(8 * columns, columns, seed=1)


def test_both_sums_are_those_of_all_windows_at_once() -> None:
    dense_NC, X_NC = streams()
    found = hessian(dense_NC, X_NC)
    assert found.drift_CC is not None
    assert found.tokens == len(X_NC)
    torch.testing.assert_close(found.H_CC, 2 / len(X_NC) * X_NC.T @ X_NC, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.drift_CC, 2 / len(X_NC) * (dense_NC - X_NC).T @ X_NC, rtol=1e-4, atol=1e-4)


def test_whole_share_gives_the_weights_whose_outputs_are_closest_to_the_dense_ones() -> None:
    dense_NC, X_NC = streams()
    W_RC = random_weights(5, 12)
    best_CR = torch.linalg.lstsq(X_NC.double(), dense_NC.double() @ W_RC.double().T).solution
    found_RC = target(W_RC, hessian(dense_NC, X_NC), 1.0, 1e-7)
    torch.testing.assert_close(found_RC, best_CR.T.float(), rtol=1e-3, atol=1e-3)
    half_RC = target(W_RC, hessian(dense_NC, X_NC), 0.5, 1e-7)
    torch.testing.assert_close(half_RC, (W_RC + found_RC) / 2, rtol=1e-4, atol=1e-4)


def test_streams_that_agree_change_nothing() -> None:
    _, X_NC = streams()
    W_RC = random_weights(5, 12)
    assert torch.equal(target(W_RC, hessian(X_NC, X_NC), 1.0, 0.01), W_RC)


def test_hessian_without_a_factor_leaves_the_weights_to_the_methods_fallback() -> None:
    W_RC = random_weights(5, 12)
    assert torch.equal(target(W_RC, hessian(*(torch.zeros(32, 12),) * 2), 1.0, 0.01), W_RC)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(tiny_models.text())
    return path


def run(folder: Path, text: Path, out: Path, recipe: dict[str, Any], **options: Any) -> Report:
    return compress(
        folder,
        recipe,
        out,
        calibration=Calibration(source=str(text), nsamples=WINDOWS, seqlen=SEQLEN),
        evaluation=Evaluation(sources=()),
        device="cpu",
        certificate=False,
        **options,
    )


@torch.inference_mode()
def in_memory(folder: Path, recipe: dict[str, Any], ids_WL: Tensor) -> Any:
    """Two whole models; every window through both for each block before it is solved."""
    dense, model = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() for _ in range(2))
    architecture = Checkpoint(folder).architecture
    planned = plan(resolve(parse_recipe(recipe)), architecture)
    for block in range(architecture.blocks):
        layers = [layer for layer in planned.block(block) if layer.options]
        seen: dict[tuple[str, bool], list[Tensor]] = {}
        handles = [
            whole.get_submodule(layer.name).register_forward_pre_hook(
                lambda _, args, key=(layer.name, whole is dense), seen=seen: seen.setdefault(key, []).append(args[0])
            )
            for whole in (dense, model)
            for layer in layers
        ]
        # the block itself is dense in both: only what comes before it differs
        for ids_L in ids_WL:
            dense(input_ids=ids_L[None], use_cache=False)
            model(input_ids=ids_L[None], use_cache=False)
        for handle in handles:
            handle.remove()
        for layer in layers:
            X, Y = (torch.cat(seen[layer.name, is_dense]).flatten(0, 1) for is_dense in (True, False))
            found = hessian(X, Y, SEQLEN)
            weight = model.get_submodule(layer.name).weight
            wanted = target(weight.float(), found, recipe["asymmetric_calibration"], 0.01)
            solution, _ = solve_matrix(weight.float(), layer, found, torch.float32, wanted)
            weight.copy_(solution.weights.to_dense())
    return model


@pytest.mark.parametrize("extra", [{}, {"skip_blocks": [1]}], ids=["every block", "one left alone"])
def test_streaming_pass_is_bit_identical_to_two_models_in_memory(extra: dict[str, Any], tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    run(folder, text, tmp_path / "out", {**RECIPE, **extra})
    from tests.compression.test_pipeline import calibration_windows

    reference = in_memory(folder, {**RECIPE, **extra}, calibration_windows(folder, text))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    found, expected = loaded.state_dict(), reference.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    run(folder, text, tmp_path / "plain", {**RECIPE, **extra, "asymmetric_calibration": 0})
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32).state_dict()
    differing = {name.split(".")[2] for name in plain if not torch.equal(plain[name], found[name])}
    assert differing == ({"1", "2"} - {str(k) for k in extra.get("skip_blocks", [])}), "nothing has drifted before block 0"


def test_continued_pass_is_bit_identical(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    finished = 0

    def stop(event: Event) -> None:
        nonlocal finished
        finished += isinstance(event, LayerFinished)
        if finished == 15:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(folder, text, tmp_path / "out", RECIPE, work=tmp_path / "work", on_event=stop)
    report = run(folder, text, tmp_path / "out", RECIPE, work=tmp_path / "work")
    assert report.resumed_blocks == 2
    assert report.payload_digest == run(folder, text, tmp_path / "whole", RECIPE).payload_digest


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ({"bits": 4, "method": "rtn", "asymmetric_calibration": 0.5}, "method rtn reads no Hessian"),
        ({"bits": 4, "true_sequential": True, "asymmetric_calibration": 0.5}, "before any matrix of the block"),
        ({"bits": 4, "asymmetric_calibration": 1.5}, "less than or equal to 1"),
    ],
    ids=["rtn", "sequential", "range"],
)
def test_contradictions_are_refused(recipe: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidOptions, match=reason) as caught:
        resolve(parse_recipe(recipe))
    assert caught.value.field == "recipe.asymmetric_calibration"


def test_mixture_of_experts_is_refused(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "mixtral")
    with pytest.raises(InvalidOptions, match="route other tokens"):
        run(folder, text, tmp_path / "out", {"bits": 4, "group_size": 32, "asymmetric_calibration": 0.5})
