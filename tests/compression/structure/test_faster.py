"""Goals of latency from end to end: really smaller, loaded by who is told to load it, resumed, and honest about its speed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from compression.errors import Cancelled, InvalidOptions, UnsupportedModel
from compression.events import BlockFinished, Event, Note
from compression.formats import load
from compression.goals.reach import reach
from compression.kept_room import DATABASES_FOLDER
from compression.manifest import file_hash
from compression.models.auto import AUTO_CLASSES
from compression.models.checkpoint import Checkpoint
from compression.protocol import Calibration, Evaluation, Output
from compression.report import Report
from compression.structure import adaprune, choosing, faster, latency
from compression.structure.loader import SHAPES_FILE
from compression.structure.race import Race, race
from compression.structure.timing import LatencyTable
from compression.structure.words import structure_details
from tests import tiny_models
from tests.compression.structure.models import ids, output_of

SEARCH = {"max_evaluations": 4, "patience": 2, "windows": 2, "tokens": 16}
GOAL = {"metric": "latency", "factor": 1.5, "multiple_of": 8, "search": SEARCH, "environment": {"seqlen": 16, "threads": 1}}


@pytest.fixture(autouse=True)
def tiny_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tiny model takes is rounding beside what a process takes; here times are in proportion to what is kept.

    Real tables and real races have tests of their own, in test_timing.py.
    """

    def table(checkpoint: Checkpoint, here: Any, levels: Any, **_: Any) -> LatencyTable:
        attention_s, ffn_s = ({kept: 2e-3 * kept / level[0] for kept in level} for level in levels)
        return LatencyTable(environment=here, blocks=tiny_models.BLOCKS, attention_s=attention_s, ffn_s=ffn_s, fixed_s=1e-3)

    def raced(checkpoint: Checkpoint, kept: Any, work: Path, here: Any) -> Race:
        dense, left = 13e-3, sum(2e-3 * a / kept_units[0] + 2e-3 * f / kept_units[1] for a, f in kept) + 1e-3
        return Race(dense, left * 1.05, 21)  # the table is off by five per cent

    kept_units = [1, 1]

    def remembering(checkpoint: Checkpoint, here: Any, levels: Any, **more: Any) -> LatencyTable:
        kept_units[:] = levels[0][0], levels[1][0]
        return table(checkpoint, here, levels, **more)

    monkeypatch.setattr(latency, "measure_table", remembering)
    monkeypatch.setattr(choosing, "raced", raced)
    monkeypatch.setattr(faster, "race", lambda dense, shrunk, here: Race(13e-3, 8.6e-3, 21))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(tiny_models.text())
    return path


def run(folder: Path, text: Path, out: Path, goal: dict[str, Any], nsamples: int = 6, **options: Any) -> Report:
    return reach(
        folder,
        {**GOAL, **goal},
        out,
        calibration=Calibration(source=str(text), nsamples=nsamples, seqlen=32),
        evaluation=Evaluation(sources=(str(text),), windows=3, seqlen=32),
        **{"device": "cpu", "certificate": False, **options},
    )


@pytest.mark.parametrize("family", ["llama", "opt", "gpt2", "bert"])
def test_the_model_is_smaller_and_gives_what_the_report_says(
    family: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faster, "race", race)
    folder = tiny_models.save(tmp_path / "model", family)
    report = run(folder, text, tmp_path / "out", {}, certificate=True)
    found = report.structure
    assert found is not None and report.recipe is None and report.goal is None
    assert found.speed.requested == 1.5 and found.speed.runs >= 20
    assert found.speed.predicted >= 1.5  # the races said that the table was off by so much
    assert found.parameters_left < found.parameters
    model = load(tmp_path / "out") if found.is_plain is False else loaded_plain(tmp_path / "out")
    assert sum(parameter.numel() for parameter in model.parameters()) == found.parameters_left
    assert report.verification.verdict == "ok", report.verification.detail
    assert report.sizes.artifact_bytes < report.sizes.source_bytes
    assert (tmp_path / "out" / SHAPES_FILE).is_file() is not found.is_plain
    assert {row["sha256"] for row in [file_hash(tmp_path / "out" / file.name) for file in report.files]} == {
        file.sha256 for file in report.files
    }
    assert not (tmp_path / ".out.work").exists()
    assert "1.5" in " ".join(structure_details(found))


def test_a_model_may_be_made_faster_at_decoding(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faster, "race", race)
    folder = tiny_models.save(tmp_path / "model", "llama")
    decoding = {"seqlen": 16, "threads": 1, "phase": "decode"}
    report = run(folder, text, tmp_path / "out", {"environment": decoding}, certificate=True)
    assert report.structure is not None and report.structure.table.environment.phase == "decode"
    assert report.structure.speed.measured > 0 and report.verification.verdict == "ok"
    assert "1 token after 16, decode in float32" in " ".join(structure_details(report.structure))


def loaded_plain(folder: Path) -> Any:
    checkpoint = Checkpoint(folder)
    return AUTO_CLASSES[checkpoint.architecture.task].from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize(("family", "factor"), [("llama", 1.5), ("opt", 1.3), ("gpt2", 1.3), ("bert", 1.3)])
def test_a_uniform_model_is_opened_by_transformers_itself(family: str, factor: float, text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    report = run(folder, text, tmp_path / "out", {"uniform": True, "factor": factor}, certificate=True)
    found = report.structure
    assert found is not None and found.is_plain and len({(b.attention, b.ffn) for b in found.blocks}) == 1
    assert "transformers" in report.verification.loader and report.verification.verdict == "ok"
    if family != "bert":  # encoders are loaded by us where their shapes differ
        torch.testing.assert_close(output_of(loaded_plain(tmp_path / "out"), ids()), output_of(load(tmp_path / "out"), ids()))


def test_solving_again_loses_no_more_than_stitching_or_says_so(text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama")
    cache = tmp_path / "cache"
    solved = run(folder, text, tmp_path / "solved", {}, cache=cache)
    stitched = run(folder, text, tmp_path / "stitched", {"stitched": True}, cache=cache)
    assert solved.structure is not None and stitched.structure is not None and solved.structure.stitched is not None
    assert stitched.structure.database.was_there and stitched.structure.is_stitched
    assert stitched.structure.blocks[0].attention == solved.structure.blocks[0].attention
    assert solved.structure.stitched.perplexity_ratio == pytest.approx(stitched.results[0].ratio, rel=1e-6)
    assert solved.results[0].ratio != stitched.results[0].ratio


@pytest.mark.parametrize(("family", "rate"), [("llama", 3e-4), ("gpt2", 1e-5)])
def test_a_tuned_model_is_the_one_that_is_written_and_both_figures_are_shown(
    family: str, rate: float, text: Path, tmp_path: Path
) -> None:
    folder = tiny_models.save(tmp_path / "model", family)
    goal: dict[str, Any] = {"factor": 2}
    given: dict[str, Any] = {"cache": tmp_path / "cache", "nsamples": 96}
    plain = run(folder, text, tmp_path / "plain", goal, **given)
    goal["adaprune"] = {"passes": 8, "learning_rate": rate}
    report = run(folder, text, tmp_path / "out", goal, certificate=True, **given)
    assert plain.structure is not None and report.structure is not None and plain.structure.adaprune is None
    found = report.structure.adaprune
    assert found is not None and found.untuned is not None and found.options.passes == 8
    assert report.verification.verdict == "ok" and (report.verification.kl or 0) < 1e-6
    assert report.structure.blocks == plain.structure.blocks
    assert found.best > 0 and found.losses[found.best] < found.losses[0], found.losses
    assert report.payload_digest != plain.payload_digest and report.resumed_blocks == 0
    before, after = plain.results[0].kl, report.results[0].kl
    assert found.untuned.perplexity_ratio == pytest.approx(plain.results[0].ratio, rel=1e-6)
    is_felt = family != "gpt2"  # so small, it says nearly the same of every token: a KL of 3e-8, which no tuning changes
    assert (before > 1e-6) is is_felt
    assert after < before or not is_felt
    assert "AdaPrune" in " ".join(structure_details(report.structure))
    assert "AdaPrune" in (tmp_path / "out" / "report.html").read_text()


def test_a_tuning_that_does_not_help_is_not_taken(text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "bert")
    given: dict[str, Any] = {"cache": tmp_path / "cache", "nsamples": 96}
    plain = run(folder, text, tmp_path / "plain", {}, **given)
    report = run(folder, text, tmp_path / "out", {"adaprune": {"passes": 2, "learning_rate": 0.1}}, **given)
    assert report.structure is not None and report.structure.adaprune is not None
    found = report.structure.adaprune
    assert found.best == 0 and min(found.losses[1:]) > found.losses[0]
    assert found.untuned is not None
    assert found.untuned.output_error == pytest.approx(plain.output_errors[0].relative_error, rel=1e-6)
    assert report.payload_digest == plain.payload_digest
    assert "from before were the best" in " ".join(structure_details(report.structure))


def test_a_tuning_that_was_interrupted_ends_bit_identical(text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama")
    goal = {"adaprune": {"passes": 3}}
    whole = run(folder, text, tmp_path / "whole", goal)

    def stop(event: Event) -> None:
        if isinstance(event, Note) and "pass 2 of 3" in event.message:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(folder, text, tmp_path / "parts", goal, on_event=stop)
    assert run(folder, text, tmp_path / "parts", goal).payload_digest == whole.payload_digest


def test_a_second_target_builds_nothing(text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama")
    events: list[Event] = []
    run(folder, text, tmp_path / "first", {}, cache=tmp_path / "cache")
    before = sorted((tmp_path / "cache" / DATABASES_FOLDER).rglob("block-*"))
    stamps = [path.stat().st_mtime_ns for path in before]
    second = run(folder, text, tmp_path / "second", {"factor": 1.3}, cache=tmp_path / "cache", on_event=events.append)
    assert second.structure is not None and second.structure.database.was_there
    assert [path.stat().st_mtime_ns for path in before] == stamps
    assert any(isinstance(event, Note) and event.message.endswith("found") for event in events)


def test_a_time_is_met_as_a_speed_up_is(text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama")
    report = run(folder, text, tmp_path / "out", {"factor": None, "at_most": 0.01})
    assert report.structure is not None
    assert report.structure.speed.requested == pytest.approx(1.3)


@pytest.mark.parametrize("at", [2, 5])
def test_an_interrupted_goal_continues_and_ends_bit_identical(at: int, text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama")
    whole = run(folder, text, tmp_path / "whole", {})
    seen = 0

    def stop(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, BlockFinished)
        if seen == at:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(folder, text, tmp_path / "parts", {}, on_event=stop)
    assert not (tmp_path / "parts").exists()
    parts = run(folder, text, tmp_path / "parts", {})
    assert parts.payload_digest == whole.payload_digest


@pytest.mark.parametrize(
    ("goal", "why"),
    [
        ({"factor": 50}, "out of reach"),
        ({"factor": None, "at_most": 1.0}, "13 ms as it is"),
        ({"factor": 10, "uniform": True}, "a uniform model of 1.3 ms is out of reach"),
        ({"environment": {"phase": "encode"}}, "no encoder"),
        ({"environment": {"seqlen": 100_000}}, "positions"),
        ({"environment": {"device": "cuda:7"}}, "not on this machine"),
        ({"levels": [{"bits": 4}]}, "leave levels out"),
    ],
    ids=["speed", "slower", "uniform", "phase", "seqlen", "device", "levels"],
)
def test_what_cannot_be_is_refused_before_any_work(goal: dict[str, Any], why: str, text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama")
    with pytest.raises(InvalidOptions, match=why):
        run(folder, text, tmp_path / "out", goal)
    assert not list((tmp_path / ".out.work").rglob("block-*"))


def test_a_tuning_that_has_no_room_is_refused_before_any_work(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaprune, "available_bytes", lambda: 1000)
    folder = tiny_models.save(tmp_path / "model", "llama")
    with pytest.raises(InvalidOptions, match=r"goal\.adaprune"):
        run(folder, text, tmp_path / "out", {"adaprune": {}})
    assert not list((tmp_path / ".out.work").rglob("block-*"))


def test_a_family_without_a_structure_is_refused(text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "bloom")
    with pytest.raises(UnsupportedModel, match="nothing is known of what can be cut"):
        run(folder, text, tmp_path / "out", {})


def test_packed_formats_are_refused(text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama")
    with pytest.raises(InvalidOptions, match="smaller model with dense weights"):
        run(folder, text, tmp_path / "out", {}, output=Output(format="sparse-packed"))


def test_half_precision_weights_are_evaluated_as_they_are_written(text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama", torch.bfloat16)
    report = run(folder, text, tmp_path / "out", {}, certificate=True)
    assert report.verification.verdict == "ok" and (report.verification.kl or 0) < 1e-6


def test_the_report_is_shown_everywhere(text: Path, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama")
    run(folder, text, tmp_path / "out", {})
    page, card = (tmp_path / "out" / "report.html").read_text(), (tmp_path / "out" / "README.md").read_text()
    for shown in (page, card):
        assert "times as fast" in shown and "load_shrunk" in shown
    assert "Units of attention and feed-forward left in each block" in page
    told = subprocess.run(
        [sys.executable, "-m", "cli", "report", str(tmp_path / "out")], capture_output=True, text=True, check=True
    ).stdout
    assert "What is left of each block" in told and "measured" in told
