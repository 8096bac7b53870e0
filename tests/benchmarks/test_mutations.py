"""Damaged checkpoints, a hundred of them: each ends in success or a typed refusal. The benchmark has thousands."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.mutated import mutate
from benchmarks.mutations import QUICK
from tests.tiny_models import save


@pytest.mark.slow
def test_no_damaged_checkpoint_does_worse_than_be_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.mutations", "--quick", "--seed", "7", "--json", str(tmp_path / "rows.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    counts = {(row["case"], row["metric"]): row["value"] for row in rows}
    assert counts.pop(("all", "faults")) == 0
    assert sum(counts.values()) == QUICK
    assert {"header", "config", "tokenizer", "index"} <= {case for case, _ in counts}
    assert {outcome for _, outcome in counts} >= {"success", "UnsupportedModel"}


def test_the_same_seed_damages_the_same(tmp_path: Path) -> None:
    base = save(tmp_path / "base")
    found = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        for path in base.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        kind = mutate(folder, random.Random("3/14"))
        found.append((kind, {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}))
    assert found[0] == found[1]
    assert found[0][1] != {path.name: path.read_bytes() for path in base.iterdir()}
