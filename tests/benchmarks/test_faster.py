"""The benchmark of faster models runs and prints what it measured."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import faster as program
from compression.output_error import neighbour_agreement
from compression.structure import choosing, faster
from compression.structure.race import Race
from tests import tiny_models


@pytest.fixture
def quick_races(monkeypatch: pytest.MonkeyPatch) -> None:
    """A race is a fresh process that loads two models; they have tests of their own, and here there would be a dozen."""

    def race(*_: Any) -> Race:
        return Race(0.011, 0.01, 21)

    for module, name in ((choosing, "raced"), (faster, "race"), (program, "race")):
        monkeypatch.setattr(module, name, race)


@pytest.mark.usefixtures("quick_races")
def test_quick_run_writes_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text.txt"
    text.write_text(tiny_models.text())
    arguments = ["faster", "--quick", "--json", str(tmp_path / "rows.json"), "--part", "decoder", "--speedup", "1.1"]
    arguments += ["--model", str(tiny_models.save(tmp_path / "model", "llama-wide"))]
    arguments += ["--calibration", str(text), "--text", str(text), "--nsamples", "4", "--calibration-seqlen", "32"]
    arguments += ["--windows", "2", "--seqlen", "32", "--batch", "16", "--run-seqlen", "64"]
    monkeypatch.setattr(sys, "argv", arguments)
    program.main()
    rows = {row["metric"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    assert (rows["measured speed-up"]["value"], rows["measured speed-up"]["reference"]) == (pytest.approx(1.1), 1.1)
    for name in ("without last blocks", "least norms cut out"):
        assert rows[f"perplexity {name}"]["reference"] == rows["perplexity of ours"]["value"] > 0
        assert rows[f"speed-up {name}"]["value"] == pytest.approx(1.1)


def test_neighbours_agree_where_embeddings_do() -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    assert neighbour_agreement(embeddings, embeddings) == 1
    one, two = torch.eye(4)[[0, 0, 1, 1]], torch.eye(4)[[0, 1, 0, 1]]  # pairs, and other pairs
    assert neighbour_agreement(one, two) == 0
