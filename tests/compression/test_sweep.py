"""Sweeps: points are the jobs that they would be alone, what they share is computed once, nothing finished is lost."""

from pathlib import Path
from typing import Any

import pytest

from compression import kept_hessians
from compression.compress import compress
from compression.errors import Cancelled, InvalidOptions
from compression.events import BlockFinished, Event, Note
from compression.pareto import undominated
from compression.protocol import Calibration, Evaluation, Output
from compression.recipe_grid import grid
from compression.report import Report
from compression.sweep import CACHE_FOLDER, sweep
from compression.sweep_report import SWEEP_FILE, SweepReport
from tests import tiny_models
from tests.compression.test_reuse import WINDOWS, counted

RECIPES: list[dict[str, Any]] = [{"pattern": "2:4"}, {"bits": 4, "group_size": 32}, {"sparsity": 0.25, "method": "magnitude"}]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(tiny_models.text())
    return path


def texts(text: Path) -> dict[str, Any]:
    return {
        "calibration": Calibration(source=str(text), nsamples=6, seqlen=32),
        "evaluation": Evaluation(sources=(str(text),), windows=WINDOWS, seqlen=32),
    }


def run(folder: Path, text: Path, out: Path, recipes: Any = RECIPES, **options: Any) -> SweepReport:
    return sweep(folder, recipes, out, **texts(text), device="cpu", certificate=False, **options)


def report_of(out: Path, name: str) -> Report:
    return Report.model_validate_json((out / name / "report.json").read_bytes())


def test_points_are_bit_identical_to_jobs_of_their_own_and_share_hessians(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    found = run(folder, text, tmp_path / "sweep")
    assert [point.error for point in found.points] == [None] * 3
    for number, (point, recipe) in enumerate(zip(found.points, RECIPES, strict=True)):
        alone = compress(
            folder, {**recipe, "inputs": "dense"}, tmp_path / f"{number}", **texts(text), device="cpu", certificate=False
        )
        of_point = report_of(tmp_path / "sweep", point.name)
        assert (of_point.payload_digest, of_point.results) == (alone.payload_digest, alone.results)
        assert (kept_hessians.WHAT in of_point.reused) == (number > 0)
        assert point.figures is not None
        assert point.figures.perplexity_ratio == alone.results[0].ratio
        assert point.figures.artifact_bytes == alone.sizes.artifact_bytes
    assert not (tmp_path / "sweep" / CACHE_FOLDER).exists()
    assert SweepReport.model_validate_json((tmp_path / "sweep" / SWEEP_FILE).read_bytes()) == found


def inputs_of(folder: Path, name: str) -> str:
    recipe = report_of(folder, name).recipe
    assert recipe is not None
    return recipe.inputs


def test_undominated_points_are_solved_again_on_compressed_inputs(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model")
    found = run(folder, text, tmp_path / "sweep", refine=True)
    best = [point for point in found.points if point.refines is None]
    refined = {point.refines: point for point in found.points if point.refines is not None}
    kept = {point.name for point in best if inputs_of(tmp_path / "sweep", point.name) == "dense"}
    assert kept == {point.name for point in best}
    assert refined
    assert refined.keys() <= kept
    (name, point), *_ = refined.items()
    assert inputs_of(tmp_path / "sweep", point.name) == "compressed"
    assert point.recipe == {**next(one for one in best if one.name == name).recipe, "inputs": "compressed"}


def test_interrupted_sweep_continues_and_runs_no_finished_point_again(tmp_path: Path, text: Path) -> None:
    folder, out = tiny_models.save(tmp_path / "model"), tmp_path / "sweep"
    usual = run(folder, text, tmp_path / "usual")
    blocks = 0

    def stop(event: Event) -> None:
        nonlocal blocks
        blocks += isinstance(event, BlockFinished)
        if blocks == tiny_models.BLOCKS + 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(folder, text, out, on_event=stop)
    begun = SweepReport.model_validate_json((out / SWEEP_FILE).read_bytes())
    assert [point.figures is None for point in begun.points] == [False, True, True]
    with counted() as calls:
        found = run(folder, text, out)
    assert [report_of(out, point.name).payload_digest for point in found.points] == [
        report_of(tmp_path / "usual", point.name).payload_digest for point in usual.points
    ]
    assert report_of(out, found.points[1].name).resumed_blocks == 2
    assert calls["LlamaDecoderLayer"] > 0
    with counted() as calls:
        assert run(folder, text, out).points == found.points
    assert calls["LlamaDecoderLayer"] == 0


def test_point_that_fails_stops_no_other_and_is_tried_again(tmp_path: Path, text: Path) -> None:
    folder, out = tiny_models.save(tmp_path / "model"), tmp_path / "sweep"
    (tmp_path / "sweep").mkdir()
    blocked = out / "01-pattern-2-4"

    def block(event: Event) -> None:
        if isinstance(event, Note) and event.message.startswith("point 1"):
            blocked.mkdir()  # an artifact folder that somebody else has made

    found = run(folder, text, out, on_event=block)
    assert [point.error is None for point in found.points] == [False, True, True]
    assert "exists already" in str(found.points[0].error)
    assert found.points[0].is_dominated is None
    blocked.rmdir()
    assert [point.error for point in run(folder, text, out).points] == [None] * 3


def test_every_recipe_is_checked_before_any_work(tmp_path: Path, text: Path) -> None:
    folder, out = tiny_models.save(tmp_path / "model"), tmp_path / "sweep"
    with pytest.raises(InvalidOptions, match=r"recipes.1: recipe.group_size: 1024 does not divide"):
        run(folder, text, out, [RECIPES[0], {"bits": 4, "group_size": 1024}])
    with pytest.raises(InvalidOptions, match="there is none"):
        run(folder, text, out, [])
    with pytest.raises(InvalidOptions, match=r"output\.format"):
        run(folder, text, out, [RECIPES[1], RECIPES[0]], output=Output(format="gptq"))
    assert not out.exists()


def test_folder_of_another_sweep_is_refused(tmp_path: Path, text: Path) -> None:
    folder, out = tiny_models.save(tmp_path / "model"), tmp_path / "sweep"
    run(folder, text, out, RECIPES[:1])
    before = (out / SWEEP_FILE).read_bytes()
    with pytest.raises(InvalidOptions, match=r"asked for otherwise \(recipes\)"):
        run(folder, text, out, RECIPES[1:])
    assert (out / SWEEP_FILE).read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(InvalidOptions, match="holds no sweep"):
        run(folder, text, tmp_path / "other")


def test_packed_bytes_of_a_dense_artifact_are_those_of_its_packed_twin_but_for_headers(tmp_path: Path, text: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama-wide")
    recipe = [{"bits": 4, "group_size": 32, "symmetric": True}]
    dense = run(folder, text, tmp_path / "dense", recipe).points[0].figures
    packed = run(folder, text, tmp_path / "packed", recipe, output=Output(format="compressed-tensors")).points[0].figures
    assert dense is not None
    assert packed is not None
    assert packed.packed_bytes == packed.artifact_bytes
    assert dense.packed_bytes < dense.artifact_bytes == pytest.approx(dense.source_bytes, rel=0.05)
    assert abs(dense.packed_bytes - packed.packed_bytes) < 16_000


class TestPareto:
    def test_equal_points_do_not_dominate_each_other(self) -> None:
        assert undominated([(1.0, 2.0), (1.0, 2.0)]) == [True, True]

    def test_points_that_another_beats_in_everything_or_one_figure_are_dominated(self) -> None:
        points = [(1.0, 5.0), (2.0, 3.0), (3.0, 3.0), (4.0, 1.0), (5.0, 5.0)]
        assert undominated(points) == [True, True, False, True, False]

    def test_order_and_count_change_nothing(self) -> None:
        points = [(float(a), float(b)) for a, b in ((1, 9), (2, 4), (2, 7), (3, 4), (9, 1), (8, 8))]
        expected = dict(zip(points, undominated(points), strict=True))
        assert dict(zip(points[::-1], undominated(points[::-1]), strict=True)) == expected
        assert undominated([]) == []


class TestGrid:
    def test_last_option_changes_fastest(self) -> None:
        found = grid({"bits": [4, 3], "group_size": [32, 64]})
        assert [(r.bits, r.group_size) for r in found.recipes] == [(4, 32), (4, 64), (3, 32), (3, 64)]
        assert found.left_out == ()

    def test_none_means_not_said_and_equal_recipes_are_one(self) -> None:
        found = grid({"sparsity": [0.5, None], "pattern": ["2:4", None]})
        assert [(r.sparsity, r.pattern) for r in found.recipes] == [(0.5, "2:4"), (0.5, None)]
        assert [said for said, _ in found.left_out] == [{}]

    def test_contradictions_are_left_out_and_told(self) -> None:
        found = grid({"sparsity": [0.5, 0.75], "pattern": ["2:4"]})
        assert [r.sparsity for r in found.recipes] == [0.5]
        ((said, reason),) = found.left_out
        assert said == {"sparsity": 0.75, "pattern": "2:4"}
        assert "contradicts pattern 2:4" in reason

    def test_nothing_left_and_too_many_are_refused(self) -> None:
        with pytest.raises(InvalidOptions, match="no combination makes a recipe: bits 99"):
            grid({"bits": [99]})
        with pytest.raises(InvalidOptions, match="289 combinations are more than 256"):
            grid({"bits": [4] * 17, "damp": [0.01] * 17})
