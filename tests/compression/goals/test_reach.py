"""Goals on a real pass: the budget holds in the files, the choice is the database's, and nothing is solved twice."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compression import kept_hessians
from compression.compress import compress
from compression.database.build import Building, build_database
from compression.database.files import DATABASE_FILE, LEVELS_FOLDER, Database
from compression.database.sensitivity import TOKENS, probed_level
from compression.errors import Cancelled, InvalidOptions
from compression.events import ActivityStarted, BlockFinished, Event, LayerFinished, Note
from compression.goals.choosing import LOSSES_FILE
from compression.goals.loss import Installed, ProfileLoss
from compression.goals.reach import reach
from compression.kept_room import DATABASES_FOLDER
from compression.models.activations import Spill
from compression.models.streamed import StreamedModel
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.report import Report
from tests import tiny_models
from tests.compression.test_reuse import WINDOWS

SEQLEN = 32
SEARCH = {"inits": 2, "patience": 2, "neighbourhood": 0.1, "max_evaluations": 6, "windows": 2, "tokens": 16}
LEVELS: list[dict[str, Any] | None] = [{"bits": 2, "group_size": 32}, {"bits": 4, "group_size": 32}, None]
MATRICES = 7 * tiny_models.BLOCKS


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(tiny_models.text())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.save(tmp_path / "model", "llama-wide")


def texts(text: Path) -> dict[str, Any]:
    return {
        "calibration": Calibration(source=str(text), nsamples=6, seqlen=SEQLEN),
        "evaluation": Evaluation(sources=(str(text),), windows=WINDOWS, seqlen=SEQLEN),
    }


def run(
    folder: Path, text: Path, out: Path, goal: Any, form: str = "compressed-tensors", *, stitched: bool = False, **options: Any
) -> Report:
    given: dict[str, Any] = {"device": "cpu", "certificate": False, "output": Output(format=form)}
    if isinstance(goal, dict):
        goal = {"levels": LEVELS, "search": SEARCH, "stitched": stitched, **goal}
    return reach(folder, goal, out, **texts(text), **{**given, **options})


def middle_bytes(report: Report, share: float) -> int:
    """A budget between the least and the dense bytes of a goal's levels."""
    assert report.goal is not None
    return round(report.goal.fixed + share * (report.goal.dense - report.goal.fixed))


@pytest.mark.parametrize("form", ["compressed-tensors", "gptq", "sparse-packed"])
def test_artifact_never_exceeds_the_budget_and_uses_it(form: str, folder: Path, text: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = run(folder, text, tmp_path / "first", {"metric": "bytes", "factor": 1.5}, form, cache=cache)
    assert first.goal is not None
    for number, share in enumerate((0.15, 0.3, 0.6)):
        budget = middle_bytes(first, share)
        report = run(folder, text, tmp_path / str(number), {"metric": "bytes", "at_most": budget}, form, cache=cache)
        goal = report.goal
        assert goal is not None
        assert report.sizes.artifact_bytes <= goal.predicted <= goal.budget == budget
        assert report.sizes.artifact_bytes >= 0.8 * budget  # a matrix of a tiny model is a large step
        assert goal.database.was_there
        chosen = {use.matrix: use.level for use in goal.profile}
        assert len(chosen) == MATRICES
        bits = {layer.name: layer.bits for layer in report.layers}
        for name, level in chosen.items():
            assert (f"bits {bits[name]}, group_size 32" if name in bits else "dense") == level
        assert len(set(chosen.values())) > 1


def test_chosen_levels_are_solved_again_and_both_figures_shown(folder: Path, text: Path, tmp_path: Path) -> None:
    goal, cache = {"metric": "bytes", "factor": 2.5}, tmp_path / "cache"
    again = run(folder, text, tmp_path / "again", goal, cache=cache)
    stitched = run(folder, text, tmp_path / "stitched", goal, cache=cache, stitched=True)
    assert again.goal is not None
    assert stitched.goal is not None
    assert again.goal.stitched is not None
    assert again.recipe is not None
    assert stitched.recipe is not None
    assert (again.recipe.inputs, stitched.recipe.inputs) == ("compressed", "dense")
    assert again.goal.profile == stitched.goal.profile
    assert again.goal.stitched.perplexity_ratio == stitched.results[0].ratio
    assert stitched.goal.stitched is None
    assert again.payload_digest != stitched.payload_digest
    assert again.verdict is not None


def test_stitched_weights_are_those_of_a_compression_with_dense_inputs(folder: Path, text: Path, tmp_path: Path) -> None:
    report = run(folder, text, tmp_path / "stitched", {"metric": "bytes", "factor": 2.5}, stitched=True)
    assert report.recipe is not None
    recipe = {
        **report.recipe.options.model_dump(),
        "inputs": "dense",
        "overrides": {name: options and options.model_dump() for name, options in report.recipe.overrides.items()},
    }
    form = Output(format="compressed-tensors")
    alone = compress(folder, recipe, tmp_path / "alone", **texts(text), output=form, device="cpu", certificate=False)
    assert report.payload_digest == alone.payload_digest
    assert report.results == alone.results
    assert not list(tmp_path.glob(".*.work"))


def test_next_goal_builds_and_solves_nothing_and_remembers_losses(folder: Path, text: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(folder, text, tmp_path / "first", {"metric": "bytes", "factor": 2.5}, cache=cache)
    (database,) = (cache / DATABASES_FOLDER).iterdir()
    losses = (database / LOSSES_FILE).read_text()
    events: list[Event] = []
    report = run(
        folder, text, tmp_path / "next", {"metric": "bytes", "factor": 2.5}, cache=cache, stitched=True, on_event=events.append
    )
    assert not any(isinstance(event, LayerFinished) for event in events)
    assert (database / LOSSES_FILE).read_text() == losses
    assert report.goal is not None
    assert report.goal.database.was_there
    assert report.resumed_blocks == tiny_models.BLOCKS
    other = run(folder, text, tmp_path / "other", {"metric": "bytes", "factor": 1.8}, cache=cache, stitched=True)
    assert other.goal is not None
    assert other.goal.profile != report.goal.profile
    assert len(list((cache / DATABASES_FOLDER).iterdir())) == 1


def test_interrupted_building_goes_on_and_gives_the_same(folder: Path, text: Path, tmp_path: Path) -> None:
    goal = {"metric": "bytes", "factor": 2.5}
    usual = run(folder, text, tmp_path / "usual", goal, stitched=True)

    def stop(event: Event) -> None:
        if isinstance(event, BlockFinished) and event.block == 2:
            raise Cancelled

    options: dict[str, Any] = {"cache": tmp_path / "cache", "stitched": True}
    with pytest.raises(Cancelled):
        run(folder, text, tmp_path / "out", goal, on_event=stop, **options)
    events: list[Event] = []
    report = run(folder, text, tmp_path / "out", goal, on_event=events.append, **options)
    solved = [event.result.block for event in events if isinstance(event, LayerFinished)]
    assert set(solved) == {2}
    assert report.payload_digest == usual.payload_digest


@pytest.mark.parametrize("activity", ["matters", "search"])
def test_choosing_is_stopped_between_two_blocks(activity: str, folder: Path, text: Path, tmp_path: Path) -> None:
    """A user who cancels waits for no search."""
    told: list[str] = []
    awaited = {"matters": "how much each matrix", "search": "search: loss"}[activity]

    def stop(event: Event) -> None:
        told.extend([event.message] if isinstance(event, Note) else [])
        if any(awaited in note for note in told) and isinstance(event, ActivityStarted):
            raise Cancelled

    with pytest.raises(Cancelled):
        run(folder, text, tmp_path / "out", {"metric": "bytes", "factor": 2.5}, on_event=stop)
    assert not (tmp_path / "out").exists()


def test_damaged_block_of_a_database_is_built_anew(folder: Path, text: Path, tmp_path: Path) -> None:
    goal, cache = {"metric": "bytes", "factor": 2.5}, tmp_path / "cache"
    usual = run(folder, text, tmp_path / "usual", goal, cache=cache, stitched=True)
    (database,) = (cache / DATABASES_FOLDER).iterdir()
    damaged = database / LEVELS_FOLDER / "00" / "block-00001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-7])
    report = run(folder, text, tmp_path / "again", goal, cache=cache, stitched=True)
    assert report.payload_digest == usual.payload_digest


def test_goal_out_of_reach_is_refused_before_any_work(folder: Path, text: Path, tmp_path: Path) -> None:
    for goal, why in (("bytes/50", "a factor of at most"), ("bits_per_weight<=1", "at least"), ("latency/2", "dense weights")):
        with pytest.raises(InvalidOptions, match=why):
            run(folder, text, tmp_path / "out", goal, cache=tmp_path / "cache")
    assert not (tmp_path / "cache" / DATABASES_FOLDER).exists()
    with pytest.raises(InvalidOptions, match="already"):
        run(folder, text, folder, "bytes/2")


def test_loss_goal_takes_the_fewest_bytes_where_they_lose_little_and_is_the_verdict(
    folder: Path, text: Path, tmp_path: Path
) -> None:
    """A random model loses nothing that counts, so the cheapest choice is good enough; others are in `test_choice.py`."""
    limits = Acceptance(max_perplexity_ratio=2.0, max_kl=None, min_top1_agreement=None)
    goal = {"metric": "perplexity_ratio", "at_most": 1.02}
    report = run(folder, text, tmp_path / "out", goal, stitched=True, acceptance=limits)
    assert {layer.bits for layer in report.layers} == {2}
    assert report.acceptance.max_perplexity_ratio == 1.02
    assert report.verdict is not None
    assert report.verdict.outcome == "accepted"


def test_operations_are_a_budget_of_zeros(folder: Path, text: Path, tmp_path: Path) -> None:
    levels = [{"sparsity": 0.75}, {"sparsity": 0.5}, {"sparsity": 0.25}, None]
    goal = {"metric": "flops", "factor": 1.5, "levels": levels}
    report = run(folder, text, tmp_path / "out", goal, "sparse-packed")
    assert report.goal is not None
    assert report.goal.unit == "flops"
    left = sum(2 * (1 - layer.sparsity) * layer.shape[0] * layer.shape[1] for layer in report.layers)
    dense = {use.matrix for use in report.goal.profile} - {layer.name for layer in report.layers}
    weights = load_file(folder / "model.safetensors")
    left += sum(2 * weights[f"{name}.weight"].numel() for name in dense)
    assert left + report.goal.fixed <= report.goal.budget * (1 + 1e-6)
    assert left + report.goal.fixed == pytest.approx(report.goal.predicted, rel=1e-3)


def test_search_is_never_worse_than_the_plain_choice_or_the_uniform_level(folder: Path, text: Path, tmp_path: Path) -> None:
    report = run(folder, text, tmp_path / "out", {"metric": "bytes", "factor": 2.2}, stitched=True)
    assert report.goal is not None
    found = report.goal.search
    assert found.uniform_level == "bits 4, group_size 32"
    assert found.uniform_loss is not None
    assert found.loss <= min(found.plain_loss, found.uniform_loss)
    assert found.evaluations <= 6 + 1
    saved = json.loads((tmp_path / "out" / "report.json").read_bytes())["goal"]
    assert saved["search"]["loss"] == found.loss


@pytest.fixture
def built(folder: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Database, Building]:
    """A database as a goal builds it, and what it was built from."""
    caught: list[tuple[Database, Building]] = []

    def build(building: Building, place: Path) -> Database:
        caught.append((build_database(building, place), building))
        return caught[-1][0]

    monkeypatch.setattr("compression.goals.choosing.build_database", build)
    run(folder, text, tmp_path / "out", {"metric": "bytes", "factor": 2.5}, cache=tmp_path / "cache", stitched=True)
    return caught[0]


def test_loss_of_a_profile_is_that_of_a_fresh_judge_whatever_was_judged_before(
    built: tuple[Database, Building], tmp_path: Path
) -> None:
    database, building = built
    ids_WL = building.job.calibration.ids_WL[:2, :16]

    def judge() -> ProfileLoss:
        model = StreamedModel(building.job.checkpoint, building.device, torch.float32)
        return ProfileLoss(model, Installed(model, database), ids_WL, Spill(tmp_path), torch.float32)

    one = judge()
    profiles = [tuple((number * step + step) % 3 for number in range(MATRICES)) for step in (1, 2, 5)]
    profiles += [(*profiles[0][:-1], (profiles[0][-1] + 1) % 3), profiles[0], (2,) * MATRICES]
    for profile in profiles:
        assert one(profile) == judge()(profile)
    assert one((2,) * MATRICES) == pytest.approx(0, abs=1e-6)


def test_sensitivity_is_the_loss_of_one_matrix_alone_by_its_error(built: tuple[Database, Building], tmp_path: Path) -> None:
    database, building = built
    kept = json.loads((database.folder / "sensitivities.json").read_bytes())
    assert list(kept) == list(database.names)
    model = StreamedModel(building.job.checkpoint, building.device, torch.float32)
    ids_1L = building.job.calibration.ids_WL[:1, :TOKENS]
    judge, level, dense = (
        ProfileLoss(model, Installed(model, database), ids_1L, Spill(tmp_path), torch.float32),
        probed_level(database),
        2,
    )
    for number in (0, 6, 9, MATRICES - 1):
        alone = tuple(level if at == number else dense for at in range(MATRICES))
        expected = judge(alone) / database.errors[number][level]
        assert kept[database.names[number]] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_uniform_profile_of_a_database_is_the_compressed_model_and_dense_is_the_model_itself(
    built: tuple[Database, Building], folder: Path, text: Path, tmp_path: Path
) -> None:
    database, _ = built
    recipe = {"bits": 4, "group_size": 32, "symmetric": True, "inputs": "dense"}
    solutions = tmp_path / "solutions"
    compress(folder, recipe, tmp_path / "alone", **texts(text), device="cpu", certificate=False, keep_solutions=solutions)
    for index in range(tiny_models.BLOCKS):
        weights, results = database.block(index, (1,) * MATRICES)
        expected = load_file(solutions / f"block-{index:05}.safetensors")
        found = {f"{name}:{part}": t for name, one in weights.items() for part, t in one.tensors().items()}
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
        assert len(results) == 7
        assert database.block(index, (2,) * MATRICES) == ({}, [])
    assert all(errors[2] == 0 < errors[1] < errors[0] for errors in database.errors)
    info = json.loads((database.folder / DATABASE_FILE).read_bytes())
    assert info["levels"] == ["bits 2, group_size 32", "bits 4, group_size 32", "dense"]


def test_databases_of_unlike_calibrations_do_not_mix(folder: Path, text: Path, tmp_path: Path) -> None:
    cache, goal = tmp_path / "cache", {"metric": "bytes", "factor": 2.5}
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.message)

    for seed, out in itertools.product((0, 1), ("a", "b")):
        calibration = Calibration(source=str(text), nsamples=6, seqlen=SEQLEN, seed=seed)
        options: dict[str, Any] = {**texts(text), "calibration": calibration, "cache": cache}
        reach(
            folder, {"levels": LEVELS, "search": SEARCH, "stitched": True, **goal}, tmp_path / f"{seed}{out}", device="cpu",
            certificate=False, output=Output(format="compressed-tensors"), on_event=listen, **options,
        )  # fmt: skip
    assert len(list((cache / DATABASES_FOLDER).iterdir())) == 2
    assert [note.partition(": ")[2] for note in notes if note.startswith("model database")] == ["to be built", "found"] * 2
    assert kept_hessians.WHAT not in notes
