"""The benchmark of all methods runs, prints what it measured, and goes on where it was interrupted."""

import json
import subprocess
import sys
from pathlib import Path

from compression.report import Report
from tests import tiny_models


def test_quick_run_writes_every_row_and_is_not_repeated(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama-wide")
    text, keep = tmp_path / "text.txt", tmp_path / "reports"
    text.write_text(tiny_models.text())
    command = [sys.executable, "-m", "benchmarks.methods", "--quick", "--no-references", "--json", str(tmp_path / "rows.json")]
    command += ["--model", str(folder), "--calibration", str(text), "--text", str(text), "--keep", str(keep)]
    command += ["--nsamples", "4", "--calibration-seqlen", "32", "--windows", "2", "--seqlen", "32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {row["case"] for row in rows} == {"dense", "magnitude 50%", "optq 4 bit g64"}
    by_metric = {(row["case"], row["metric"]): row["value"] for row in rows}
    report = Report.model_validate_json((keep / "optq-4-bit-g64.json").read_text())
    assert by_metric["optq 4 bit g64", "perplexity"] == report.results[0].compressed.value
    assert by_metric["optq 4 bit g64", "weights on disk (gptq)"] * 1e6 == report.sizes.artifact_bytes
    assert all(row["reference"] is None for row in rows)
    written = {path: path.stat().st_mtime_ns for path in keep.iterdir()}
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.stdout == done.stdout
    assert {path: path.stat().st_mtime_ns for path in keep.iterdir()} == written
