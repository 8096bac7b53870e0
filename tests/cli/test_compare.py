import json
import shutil
from pathlib import Path

import pytest

from cli.compare_text import Candidate, weighed
from cli.exits import Exit
from tests.cli.conftest import Scalpel


def candidate(name: str, size: int, loss: float | None, figure: str = "KL") -> Candidate:
    return Candidate(name, "m", "", "dense", size, loss, None, figure, None, None, None)


def test_result_is_dominated_by_one_that_is_no_larger_and_no_worse() -> None:
    given = [candidate("a", 100, 0.5), candidate("b", 50, 0.5), candidate("c", 200, 0.1), candidate("d", 60, 0.6)]
    assert [(one.name, one.dominated_by) for one in weighed(given)] == [("b", None), ("d", "b"), ("a", "b"), ("c", None)]


def test_equals_and_what_was_measured_otherwise_dominate_nobody() -> None:
    given = [candidate("a", 1, 0.5), candidate("b", 1, 0.5), candidate("c", 2, 0.9, "other"), candidate("d", 3, None)]
    assert {one.dominated_by for one in weighed(given)} == {None}


@pytest.fixture
def worse(compressed: Path, tmp_path: Path) -> Path:
    """The same result with a larger loss, as a report would tell it."""
    copy = tmp_path / "worse"
    copy.mkdir()
    report = json.loads((compressed / "report.json").read_text())
    report["results"][0]["kl"] *= 2
    (copy / "report.json").write_text(json.dumps(report))
    return copy


def test_results_are_compared_in_a_table_and_bars(
    scalpel: Scalpel, compressed: Path, worse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(compressed, "good")
    ran = scalpel("compare", "good", "worse")
    assert ran.code == Exit.OK, ran.err
    assert "dominated by good" in ran.out
    bars = [line for line in ran.out.splitlines() if "█" in line or "░" in line]
    assert [bar.count("█") + bar.count("░") for bar in bars] == [20, 40]
    assert "█" in bars[0] and "░" in bars[1]
    told = json.loads(scalpel("compare", worse, compressed, "--json").out)
    assert [one["dominated_by"] for one in told] == [None, str(compressed)]


def test_one_result_and_results_of_different_models_are_refused(
    scalpel: Scalpel, compressed: Path, worse: Path, tmp_path: Path
) -> None:
    assert scalpel("compare", compressed).code == Exit.REFUSED
    other = shutil.copytree(worse, tmp_path / "other")
    report = json.loads((other / "report.json").read_text())
    report["model"]["source"] = "somebody/else"
    (other / "report.json").write_text(json.dumps(report))
    assert "somebody/else" in scalpel("compare", compressed, other).error_line
