"""Tuning as one: its loss against the plain formula, never worse on windows held out, and the same after an interruption."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import kl_div

from compression.errors import Cancelled, InvalidOptions
from compression.events import Event, Note, ignore_events
from compression.goals.goal import AdaPruneOptions, parse_goal
from compression.models.checkpoint import Checkpoint
from compression.models.streamed import StreamedModel
from compression.structure import adaprune
from compression.structure.adaprune import AdaPrune, check_adaprune, relative_error, tunable
from compression.structure.cut_files import CutFiles
from compression.structure.shrink import Cut, Cuts, shrunk_block
from compression.structure.units import structure_of
from tests import tiny_models
from tests.compression.structure.models import ids

CPU = torch.device("cpu")
FAMILIES = ("llama", "opt", "gpt2", "bert")
Make = Callable[..., AdaPrune]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A tuning of a tiny model, by its family, cuts and whatever differs from the usual."""

    def made(family: str, cuts: list[Cuts] | None = None, **others: Any) -> AdaPrune:
        folder = tmp_path / family
        if not folder.exists():
            tiny_models.save(folder, family)
        model = StreamedModel(Checkpoint(folder), CPU, torch.float32)
        given: dict[str, Any] = {
            "ids_WL": ids(16, 24),
            "options": AdaPruneOptions(passes=3, learning_rate=2e-3),
            "compute_dtype": torch.float32,
            "state_path": tmp_path / "state.pt",
            "key": "one",
            "on_event": ignore_events,
        }
        return AdaPrune(model, cuts or some_cuts(model), **{**given, **others})

    return made


def some_cuts(model: StreamedModel) -> list[Cuts]:
    """Some units gone; no attention; no feed-forward and all of the attention."""
    attention, ffn = structure_of(model.checkpoint.architecture)
    whole = Cut(tuple(range(attention.units)))
    return [
        (Cut(tuple(range(1, attention.units))), Cut(tuple(range(0, ffn.units, 2)))),
        (Cut(()), Cut(tuple(range(ffn.units // 2)))),
        (whole, Cut(())),
    ]


def test_errors_are_relative_to_each_token() -> None:
    dense, left = torch.tensor([[[3.0, 4.0], [300.0, 400.0]]]), torch.tensor([[[3.0, 3.0], [300.0, 300.0]]])
    assert float(relative_error(left, dense)) == pytest.approx(1 / 25)


def test_loss_and_gradients_are_those_of_the_plain_formula(family: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaprune, "CHUNK_LOGITS", 5 * 2 * 256)  # five tokens of both windows: 24 do not divide by it
    tuning = make(family)
    windows = ids(2, 24)
    loss = tuning._loss(windows, is_tuning=True)
    gradients = [parameter.grad for parameter in tuning._all()]
    for parameter in tuning._all():
        parameter.grad = None
    plain = plain_loss(tuning, windows)
    plain.backward()
    assert loss == pytest.approx(float(plain.detach()), rel=1e-5)
    assert len(gradients) > 10
    for parameter, gradient in zip(tuning._all(), gradients, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-7)


def plain_loss(tuning: AdaPrune, windows: Tensor) -> Tensor:
    model = tuning._model
    dense, calls = model.enter(windows)
    left, errors = dense, []
    for dense_block, left_block, call in zip(tuning._dense, tuning._left, calls, strict=True):
        dense, left = (
            output[0] if isinstance(output, tuple) else output
            for output in (dense_block(dense, *call.args, **call.kwargs), left_block(left, *call.args, **call.kwargs))
        )
        errors.append(((left - dense).norm(dim=-1) / dense.norm(dim=-1)).square().mean())
    loss = torch.stack(errors).mean()
    if model.checkpoint.architecture.is_encoder:
        return loss
    dense_log, left_log = model.logits(dense).log_softmax(-1), model.logits(left).log_softmax(-1)
    return loss + kl_div(left_log, dense_log, log_target=True, reduction="none").sum(-1).mean()


def test_windows_held_out_lose_less_and_only_what_is_left_changes(family: str, make: Make) -> None:
    tuning = make(family)
    found = tuning.run()
    assert found.best > 0 and found.losses[found.best] == min(found.losses) < 0.95 * found.losses[0]
    assert len(found.losses) == 4
    before = some_cuts(tuning._model)
    for index, (cuts, old) in enumerate(zip(found.cuts, before, strict=True)):
        assert [cut.kept for cut in cuts] == [cut.kept for cut in old]
        block = tuning._model.load_block(index)
        shrunk = shrunk_block(block, index, tuning._architecture, cuts)
        plain = shrunk_block(block, index, tuning._architecture, old)
        shapes = {name: parameter.shape for name, parameter in plain.named_parameters()}
        assert {name: parameter.shape for name, parameter in shrunk.named_parameters()} == shapes
        changed = tunable(plain, structure_of(tuning._architecture), old)
        for name, parameter in shrunk.named_parameters():
            assert torch.equal(parameter, plain.get_parameter(name)) is (name not in changed), name
    assert make(family, list(found.cuts), key="two")._judged() == pytest.approx(found.losses[found.best], rel=1e-5)


def test_what_is_dense_already_stays_as_it_is(make: Make) -> None:
    model = make("llama")._model
    attention, ffn = structure_of(model.checkpoint.architecture)
    whole = [(Cut(tuple(range(attention.units))), Cut(tuple(range(ffn.units))))] * tiny_models.BLOCKS
    tuning = make("llama", whole)
    found = tuning.run()
    assert found.losses[0] == pytest.approx(0, abs=1e-6)
    if found.best == 0:
        for index, cuts in enumerate(found.cuts):
            block = tuning._model.load_block(index)
            for name, tensor in {**cuts[0].tuned, **cuts[1].tuned}.items():
                assert torch.equal(tensor, block.get_parameter(name))


def test_an_interrupted_tuning_ends_bit_identical(make: Make, tmp_path: Path) -> None:
    whole = make("llama", state_path=tmp_path / "whole.pt").run()

    def stop(event: Event) -> None:
        if isinstance(event, Note) and "pass 2" in event.message:
            raise Cancelled

    with pytest.raises(Cancelled):
        make("llama", on_event=stop).run()
    told: list[Event] = []
    parts = make("llama", on_event=told.append).run()
    assert any(isinstance(event, Note) and "continues after pass 2" in event.message for event in told)
    assert parts.losses == whole.losses and parts.best == whole.best
    for one, other in zip(parts.cuts, whole.cuts, strict=True):
        for cut, same in zip(one, other, strict=True):
            assert cut.tuned.keys() == same.tuned.keys()
            assert all(torch.equal(cut.tuned[name], same.tuned[name]) for name in cut.tuned)


def test_a_tuning_that_breaks_down_ends_with_what_was_best(make: Make) -> None:
    told: list[Event] = []
    tuning = make("llama", options=AdaPruneOptions(passes=3, learning_rate=1), on_event=told.append)
    tuning._parameters[0]["self_attn.q_proj.weight"].register_hook(lambda gradient: gradient * torch.nan)
    found = tuning.run()
    assert found.losses == found.losses[:1] and found.best == 0
    assert any(isinstance(event, Note) and event.level == "warning" and "pass 1" in event.message for event in told)
    assert all(cut.tuned[name].isfinite().all() for cuts in found.cuts for cut in cuts for name in cut.tuned)


def test_another_tunings_state_is_not_continued(make: Make) -> None:
    make("llama").run()
    told: list[Event] = []
    make("llama", key="two", on_event=told.append).run()
    assert not any(isinstance(event, Note) and "continues" in event.message for event in told)


def test_what_cannot_be_tuned_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tiny_models.save(tmp_path / "model", "llama"))
    check_adaprune(checkpoint, ids(2, 24), CPU)
    with pytest.raises(InvalidOptions, match="one window"):
        check_adaprune(checkpoint, ids(1, 24), CPU)
    monkeypatch.setattr(adaprune, "available_bytes", lambda: 1000)
    with pytest.raises(InvalidOptions, match=r"takes about .* GB, and 1e-06 GB are free"):
        check_adaprune(checkpoint, ids(2, 24), CPU)


def test_only_goals_of_latency_are_tuned() -> None:
    with pytest.raises(InvalidOptions, match="adaprune is for latency"):
        parse_goal({"metric": "bytes", "factor": 2, "adaprune": {"passes": 1}})
    goal = parse_goal({"metric": "latency", "factor": 2, "adaprune": {}})
    assert goal.adaprune == AdaPruneOptions()


def test_tuned_parameters_survive_the_disk(tmp_path: Path) -> None:
    files = CutFiles(tmp_path / "cuts", {"a": "b"})
    tuned = {"self_attn.q_proj.weight": torch.randn(3, 4), "self_attn.q_proj.bias": torch.randn(3)}
    files.save(0, (Cut((0, 2), None, tuned), Cut((1,), torch.randn(2, 1))), (0.1, 0.2))
    attention, ffn = files.cuts(0)
    assert attention.kept == (0, 2) and attention.weights_RK is None and ffn.tuned == {}
    assert attention.tuned.keys() == tuned.keys()
    assert all(torch.equal(attention.tuned[name], tensor) for name, tensor in tuned.items())
    with pytest.raises(InvalidOptions, match="block 1 vanished"):
        files.cuts(1)
