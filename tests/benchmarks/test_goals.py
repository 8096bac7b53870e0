"""The benchmark of goals runs and prints what the reports say."""

import json
import subprocess
import sys
from pathlib import Path

from tests import tiny_models


def test_quick_run_writes_every_row(tmp_path: Path) -> None:
    folder, text = tiny_models.save(tmp_path / "model", "llama-wide"), tmp_path / "text.txt"
    text.write_text(tiny_models.text())
    command = [sys.executable, "-m", "benchmarks.goals", "--quick", "--json", str(tmp_path / "rows.json")]
    command += ["--model", str(folder), "--calibration", str(text), "--text", str(text)]
    command += ["--nsamples", "4", "--calibration-seqlen", "32", "--windows", "2", "--seqlen", "32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    found = {(row["case"], row["metric"]): row for row in rows}
    for case in ("bits", "symmetric bits", "zeros"):
        assert found[case, "weights on disk of chosen"]["value"] <= found[case, "weights on disk of that"]["value"]
        chosen = found[case, "perplexity of chosen levels"]
        assert chosen["reference"] > 0
        assert found[case, "time of next goal in all"]["value"] > found[case, "time to search next goal"]["value"]
    assert found["sweep of 2", "time"]["reference"] > 0
