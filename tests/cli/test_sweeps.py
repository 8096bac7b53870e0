"""`scalpel sweeps` against a running service."""

import json
from pathlib import Path

import pytest

from cli.exits import Exit
from tests.api.serving import Served
from tests.cli.conftest import Scalpel

MODEL = "demo:smollm2-135m"


def test_sweep_is_asked_for_shown_listed_and_forgotten(service: Served, scalpel: Scalpel, tmp_path: Path) -> None:
    file = tmp_path / "recipes.json"
    file.write_text(json.dumps([{"pattern": "2:4"}]))
    grids = ["--grid", "sparsity=0.5,0.75", "--grid", "pattern=2:4", "--grid", "method=magnitude"]
    ran = scalpel("sweeps", "submit", MODEL, "--recipes", file, *grids, "--nsamples", 8, "--label", "team=search")
    assert ran.code == Exit.OK, ran.err
    sweep_id = ran.out.strip()
    assert "left out: sparsity 0.75, pattern 2:4" in ran.err
    assert "2 jobs; compare them with" in ran.err
    shown = scalpel("sweeps", "show", sweep_id)
    assert shown.out.count("queued") == 2
    assert "pattern 2:4, sparsity 0.5" in shown.out.replace("sparsity 0.5, pattern 2:4", "pattern 2:4, sparsity 0.5")
    as_json = json.loads(scalpel("sweeps", "show", sweep_id, "--json").out)
    assert [point["recipe"]["inputs"] for point in as_json["points"]] == ["dense", "dense"]
    assert as_json["request"]["labels"] == {"team": "search"}
    assert "2 queued" in scalpel("sweeps", "list").out
    assert "is forgotten" in scalpel("sweeps", "forget", sweep_id).out
    assert scalpel("sweeps", "show", sweep_id).code == Exit.NOT_FOUND
    assert scalpel("sweeps", "list").out.strip() == "no sweeps"


def test_a_family_of_goals_is_asked_for(service: Served, scalpel: Scalpel) -> None:
    goals = ["--goal", "latency/1.3", "--goal", "latency/1.6", "--runs-on", "batch=8"]
    ran = scalpel("sweeps", "submit", MODEL, *goals)
    assert ran.code == Exit.OK, ran.err
    shown = scalpel("sweeps", "show", ran.out.strip())
    assert "latency / 1.3" in shown.out and "latency / 1.6" in shown.out
    as_json = json.loads(scalpel("sweeps", "show", ran.out.strip(), "--json").out)
    assert [point["goal"]["environment"] for point in as_json["points"]] == [{"batch": 8}] * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name some with --grid"),
        (["--grid", "bits=99"], "no combination makes a recipe"),
        (["--grid", "bits"], "an option, ="),
    ],
    ids=["none", "value", "form"],
)
def test_sweep_without_a_recipe_is_refused(service: Served, scalpel: Scalpel, arguments: list[str], words: str) -> None:
    ran = scalpel("sweeps", "submit", MODEL, *arguments)
    assert ran.code == Exit.REFUSED
    assert words in ran.error_line
