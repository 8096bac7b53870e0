"""The quality benchmark runs, and prints what it measured."""

import json
import subprocess
import sys
from pathlib import Path

from tests import tiny_models


def test_quick_run_writes_every_row(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama-wide")
    text = tmp_path / "text.txt"
    text.write_text(tiny_models.text())
    command = [sys.executable, "-m", "benchmarks.quality", "--quick", "--no-references", "--json", str(tmp_path / "rows.json")]
    command += ["--model", str(folder), "--calibration", str(text), "--text", str(text)]
    command += ["--nsamples", "4", "--calibration-seqlen", "32", "--windows", "2", "--seqlen", "32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "rows.json").read_text())
    assert document["benchmark"] == "quality"
    perplexities = {row["case"]: row["value"] for row in document["rows"] if row["metric"] == "perplexity"}
    assert set(perplexities) == {"dense", "sparsegpt 50%", "optq 4 bit g64 act-order"}
    assert all(f"{value:.4g}" in done.stdout for value in perplexities.values())
    assert all(row["reference"] is None for row in document["rows"])
