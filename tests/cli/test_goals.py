import json
from pathlib import Path

import pytest

from cli.exits import Exit
from tests.cli.conftest import TEXT_FLAGS, Scalpel


def flags(tiny: Path, out: Path) -> list[object]:
    text = tiny / "text.txt"
    return ["-o", out, "--calibration", text, "--eval", text, *TEXT_FLAGS, "--device", "cpu", "--evaluations", 3]


def test_goal_is_reached_right_here_and_told(scalpel: Scalpel, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    levels = ["--level", "bits=4,group-size=32", "--level", "bits=8", "--level", "dense"]
    asked = ["compress", tiny / "model", "--goal", "bytes/1.5", *levels, "--ignore", "*.v_proj", "--format", "sparse-packed"]
    ran = scalpel(*asked, *flags(tiny, out))
    assert ran.code == Exit.OK, ran.err
    report = json.loads((out / "report.json").read_bytes())
    assert report["sizes"]["artifact_bytes"] <= report["sizes"]["source_bytes"] / 1.5
    assert report["goal"]["asked"]["levels"] == [{"bits": 4, "group_size": 32}, {"bits": 8}, None]
    assert not any("v_proj" in use["matrix"] for use in report["goal"]["profile"])
    assert "goal: bytes / 1.5" in ran.out
    shown = scalpel("report", out)
    assert shown.code == Exit.OK
    assert "bits 4, group_size 32" in shown.out
    assert "stitched" in shown.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--goal", "tiny"], "goal: 'tiny' cannot be read"),
        (["--goal", "bytes/2", "--bits", 4], "leave out --bits"),
        (["--level", "bits=4"], "are about a --goal"),
        (["--goal", "bytes/2", "--level", "four"], "'four' is no option=value"),
        (["--goal", "bytes/2", "--level", "bits=99", "--level", "dense"], "goal.levels.0"),
        (["--goal", "bytes/90", "--format", "compressed-tensors"], "out of reach (allowed: a factor of at most"),
        (["--goal", "latency/2", "--format", "gptq"], "a smaller model with dense weights"),
        (["--goal", "latency/2", "--runs-on", "batch"], "--runs-on: 'batch' is no option=value"),
        (["--goal", "latency/2", "--runs-on", "batch=0"], "goal.environment.batch"),
        (["--uniform"], "are about a --goal"),
    ],
    ids=["words", "recipe", "no goal", "level", "bits", "out of reach", "packed", "runs on", "batch", "uniform"],
)
def test_goal_that_cannot_be_is_refused(
    scalpel: Scalpel, tiny: Path, tmp_path: Path, arguments: list[object], words: str
) -> None:
    text = tiny / "text.txt"
    texts = ["--calibration", text, "--eval", text, *TEXT_FLAGS]
    ran = scalpel("compress", tiny / "model", *arguments, *texts, "-o", tmp_path / "out")
    assert ran.code == Exit.REFUSED
    assert words in ran.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
