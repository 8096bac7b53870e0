import json
from pathlib import Path

import pytest

from cli.exits import Exit
from tests.cli.conftest import TEXT_FLAGS, Scalpel


def flags(tiny: Path, out: Path) -> list[object]:
    text = tiny / "text.txt"
    return ["-o", out, "--calibration", text, "--eval", text, *TEXT_FLAGS, "--device", "cpu"]


def test_grid_gives_an_artifact_each_and_a_table_that_marks_the_best(scalpel: Scalpel, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    asked = ["sweep", tiny / "model", "--grid", "bits=3,8", "--grid", "group-size=32", *flags(tiny, out)]
    ran = scalpel(*asked)
    assert ran.code == Exit.OK, ran.err
    found = json.loads((out / "sweep.json").read_bytes())
    assert [point["recipe"] for point in found["points"]] == [
        {"inputs": "dense", "bits": bits, "group_size": 32} for bits in (3, 8)
    ]
    for point in found["points"]:
        assert json.loads((out / point["name"] / "report.json").read_bytes())["recipe"]["inputs"] == "dense"
    rows = [line for line in ran.out.splitlines() if "group_size 32" in line]
    assert [("bits 3" in row, row.strip().startswith("*")) for row in rows] == [
        (True, not found["points"][0]["is_dominated"]),
        (False, not found["points"][1]["is_dominated"]),
    ]
    assert "Hessians of the dense model: reused" in ran.err
    again = scalpel(*asked)
    assert again.code == Exit.OK
    assert again.err.count("finished by an earlier attempt") == 2
    assert [line for line in again.out.splitlines() if "group_size" in line] == rows


def test_recipes_come_from_a_file_too_and_contradictions_are_told(scalpel: Scalpel, tiny: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "sweep", tmp_path / "recipes.json"
    file.write_text(json.dumps([{"pattern": "2:4", "inputs": "compressed"}]))
    grids = ["--grid", "sparsity=0.5,0.75", "--grid", "pattern=2:4", "--grid", "method=magnitude"]
    ran = scalpel("sweep", tiny / "model", "--recipes", file, *grids, "--json", *flags(tiny, out))
    assert ran.code == Exit.OK, ran.err
    recipes = [point["recipe"] for point in json.loads(ran.out)["points"]]
    assert recipes == [
        {"inputs": "compressed", "pattern": "2:4"},
        {"inputs": "dense", "sparsity": 0.5, "pattern": "2:4", "method": "magnitude"},
    ]
    assert "left out: sparsity 0.75, pattern 2:4" in ran.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name some with --grid bits=3,4 or --recipes FILE"),
        (["--grid", "bits"], "an option, =, and values"),
        (["--grid", "bits=99"], "no combination makes a recipe"),
        (["--grid", "bits=4", "--grid", "group_size=1024"], "recipes.0: recipe.group_size: 1024 does not divide"),
    ],
    ids=["none", "form", "value", "model"],
)
def test_what_makes_no_recipe_is_refused(
    scalpel: Scalpel, tiny: Path, tmp_path: Path, arguments: list[object], words: str
) -> None:
    ran = scalpel("sweep", tiny / "model", *arguments, *flags(tiny, tmp_path / "sweep"))
    assert ran.code == Exit.REFUSED
    assert words in ran.err.splitlines()[-1]
    assert not (tmp_path / "sweep" / "sweep.json").exists()


def test_a_point_that_failed_ends_with_an_error_and_the_others_figures(scalpel: Scalpel, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    asked = ["sweep", tiny / "model", "--grid", "bits=4,8", *flags(tiny, out)]
    assert scalpel(*asked).code == Exit.OK
    report = out / "02-bits-8" / "report.json"
    report.unlink()  # the folder is there and holds no artifact: nothing is overwritten
    ran = scalpel(*asked)
    assert ran.code == Exit.FAILED
    assert "02-bits-8 failed" in ran.out
    assert "1 of 2 failed: 02-bits-8" in ran.err.splitlines()[-1]
