"""Kept solutions, and another artifact from them without solving."""

import json
from pathlib import Path
from typing import Any

import pytest

from compression.compress import compress
from compression.errors import InvalidOptions
from compression.events import Event, StageStarted
from compression.export import export
from compression.manifest import file_hashes, payload_digest
from compression.model_card import model_card
from compression.page import render
from compression.protocol import Calibration, Evaluation, Output, OutputFormat
from compression.report import Report
from compression.solutions import open_solutions
from tests import tiny_models

SEQLEN = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model `model`, a text, and what two passes over it left: `quantised`, `pruned` and their `...-solutions`."""
    folder = tmp_path_factory.mktemp("export")
    tiny_models.save(folder / "model")
    (folder / "text.txt").write_text(tiny_models.text())
    mixed = {"bits": 3, "group_size": 16, "overrides": {"*.up_proj": {"sparsity": 0.5}, "*.k_proj": None}, "skip_blocks": [1]}
    run(folder, "quantised", mixed)
    run(folder, "pruned", {"pattern": "2:4"}, evaluation=Evaluation(sources=()), certificate=False)
    return folder


def run(folder: Path, name: str, recipe: dict[str, Any], **options: Any) -> Report:
    text = str(folder / "text.txt")
    return compress(
        folder / "model",
        recipe,
        folder / name,
        calibration=Calibration(source=text, nsamples=3, seqlen=SEQLEN),
        keep_solutions=folder / f"{name}-solutions",
        provenance={"job_id": "01A"},
        **{"evaluation": Evaluation(sources=(text,), windows=2, seqlen=SEQLEN), **options},
    )


def report_of(folder: Path) -> Report:
    return Report.model_validate_json((folder / "report.json").read_bytes())


@pytest.mark.parametrize(("name", "certificate"), [("quantised", True), ("pruned", False)])
def test_the_same_format_exported_is_bit_identical(folder: Path, tmp_path: Path, name: str, certificate: bool) -> None:
    events: list[Event] = []
    report = export(
        folder / f"{name}-solutions",
        folder / "model",
        Output(),
        tmp_path / "out",
        certificate=certificate,
        on_event=events.append,
    )
    solved = report_of(folder / name)
    assert report.payload_digest == solved.payload_digest
    assert report == report_of(tmp_path / "out")
    assert [event.stage for event in events if isinstance(event, StageStarted)] == ["exporting", "verifying"]
    assert report.verification == solved.verification
    assert report.sample == solved.sample
    assert report.sizes == solved.sizes


def test_figures_of_the_pass_are_kept_and_the_origin_is_told(folder: Path, tmp_path: Path) -> None:
    report = export(
        folder / "quantised-solutions",
        folder / "model",
        Output(),
        tmp_path / "out",
        origin="job 01A",
        certificate=False,
        provenance={"a": 1},
    )
    solved = report_of(folder / "quantised")
    for section in ("model", "recipe", "calibration_text", "results", "layers", "coverage", "memory", "environment"):
        assert getattr(report, section) == getattr(solved, section)
    assert report.seconds["solving"] == solved.seconds["solving"]
    assert report.notes == (
        "exported from job 01A: solved once; quality, memory and the times of solving are those of that pass",
    )
    assert (solved.notes, report.provenance) == ((), {"a": 1})


def test_solutions_hold_probe_and_every_layer(folder: Path) -> None:
    kept = open_solutions(folder / "quantised-solutions")
    solved = report_of(folder / "quantised")
    assert kept.report == solved
    assert kept.probe.ids_WL.shape == (2, SEQLEN)
    assert kept.probe.outputs.shape == (2, SEQLEN, tiny_models.VOCABULARY)
    assert [r for block in range(tiny_models.BLOCKS) for r in kept.block(block)[1]] == list(solved.layers)
    assert kept.block(1)[0] == {}
    assert {weights.kind for weights in kept.block(0)[0].values()} == {"grid"}


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tiny_models.save(tmp_path / "other", "llama-wide")
    with pytest.raises(InvalidOptions, match="is not the model that was solved"):
        export(folder / "pruned-solutions", other, Output(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["block-00002.safetensors", "probe.safetensors", "report.json"])
def test_damaged_solutions_are_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    solutions = copy(folder / "pruned-solutions", tmp_path / "solutions")
    (solutions / damage).write_bytes((solutions / damage).read_bytes()[:-50])
    with pytest.raises(InvalidOptions, match="no usable solutions"):
        export(solutions, folder / "model", Output(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_solutions_that_are_not_there_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOptions, match="no usable solutions"):
        export(tmp_path / "nowhere", folder / "model", Output(), tmp_path / "out")


def test_swapped_blocks_are_refused(folder: Path, tmp_path: Path) -> None:
    """Matrices that are named in another block's file would be missing in theirs, and stay dense without a word."""
    solutions = copy(folder / "quantised-solutions", tmp_path / "solutions")
    (solutions / "block-00000.safetensors").rename(solutions / "kept")
    (solutions / "block-00002.safetensors").rename(solutions / "block-00000.safetensors")
    (solutions / "kept").rename(solutions / "block-00002.safetensors")
    with pytest.raises(InvalidOptions, match="block 0 holds other matrices"):
        export(solutions, folder / "model", Output(), tmp_path / "out")


def test_nothing_is_overwritten(folder: Path, tmp_path: Path) -> None:
    for existing in (folder / "pruned", folder / "pruned-solutions"):
        with pytest.raises(InvalidOptions, match="exists already"):
            export(folder / "pruned-solutions", folder / "model", Output(), existing)
    with pytest.raises(InvalidOptions, match="keep_solutions"):
        compress(folder / "model", {"bits": 4}, tmp_path / "out", keep_solutions=folder / "pruned-solutions")


def copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize("name", ["compressed-tensors", "gptq"])
def test_an_export_is_what_the_pass_would_have_written(folder: Path, tmp_path: Path, name: OutputFormat) -> None:
    tiny_models.save(tmp_path / "model", "llama-wide")
    (tmp_path / "text.txt").write_text((folder / "text.txt").read_text())
    recipe = {"bits": 4, "group_size": 32, "symmetric": True}
    quick: dict[str, Any] = {"evaluation": Evaluation(sources=()), "certificate": False}
    run(tmp_path, "dense", recipe, **quick)
    direct = run(tmp_path, "direct", recipe, output=Output(format=name), **quick)
    exported = export(
        tmp_path / "dense-solutions", tmp_path / "model", Output(format=name), tmp_path / "out", certificate=False
    )
    assert exported.payload_digest == direct.payload_digest
    assert exported.sizes == direct.sizes
    assert exported.sizes.predicted_bytes == exported.sizes.artifact_bytes


def test_a_format_that_cannot_hold_what_was_solved_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOptions, match="only prunes") as refusal:
        export(folder / "pruned-solutions", folder / "model", Output(format="gptq"), tmp_path / "out")
    assert refusal.value.field == "output.format"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["quantised", "pruned"])
def test_page_and_card_are_drawn_from_the_report_and_listed(folder: Path, name: str) -> None:
    artifact = folder / name
    report = report_of(artifact)
    assert (artifact / "report.html").read_text("utf-8") == render(report)
    assert (artifact / "README.md").read_text("utf-8") == model_card(report)
    hashes = file_hashes(artifact)
    assert json.loads((artifact / "scalpel.json").read_text())["files"] == hashes
    assert payload_digest(hashes) == report.payload_digest  # which nothing changes that tells of the payload
    assert {file.name for file in report.files} == hashes.keys() - {"report.json", "report.html", "README.md"}
    assert report.memory.over_time and max(p.host_bytes for p in report.memory.over_time) <= report.memory.host_peak_bytes
