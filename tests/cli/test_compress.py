import json
from pathlib import Path

import pytest

from cli.exits import Exit
from tests.cli.conftest import TEXT_FLAGS, Scalpel


def test_model_is_compressed_right_here(scalpel: Scalpel, tiny: Path, tmp_path: Path) -> None:
    out, text = tmp_path / "out", tiny / "text.txt"
    texts = ["--calibration", text, "--eval", text, *TEXT_FLAGS]
    ran = scalpel(
        "compress",
        tiny / "model",
        "-o",
        out,
        "--pattern",
        "2:4",
        "--format",
        "dense",
        *texts,
        "--device",
        "cpu",
        "--low-memory",
    )
    assert ran.code == Exit.OK, ran.err
    assert (out / "model.safetensors.index.json").exists()
    report = json.loads((out / "report.json").read_bytes())
    assert (report["recipe"]["options"]["pattern"], report["memory"]["mode"]) == ("2:4", "low-memory")
    assert "block 3 of 3" in ran.err
    assert f"written to {out}" in ran.out
    assert "perplexity" in ran.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["demo:nobody", "--bits", 4], "known: demo:smollm2-135m"),
        (["demo:smollm2-135m"], "name at least one of sparsity, pattern, bits"),
        (["demo:smollm2-135m", "--bits", 4, "--nsamples", 0], "calibration.nsamples"),
        (["/nowhere/at/all", "--bits", 4], "there is no such file or folder"),
    ],
    ids=["model", "target", "nsamples", "path"],
)
def test_refusal_comes_before_any_work(scalpel: Scalpel, tmp_path: Path, arguments: list[object], words: str) -> None:
    ran = scalpel("compress", *arguments, "-o", tmp_path / "out")
    assert ran.code == Exit.REFUSED
    assert words in ran.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_existing_folder_is_not_overwritten(scalpel: Scalpel, tiny: Path, tmp_path: Path) -> None:
    ran = scalpel("compress", tiny / "model", "-o", tmp_path, "--bits", 4)
    assert ran.code == Exit.REFUSED
    assert "exists already" in ran.err.splitlines()[-1]
