"""The benchmark of the exact method runs, and prints what it measured."""

import json
import subprocess
import sys
from pathlib import Path

from tests import tiny_models


def test_every_method_is_measured_on_every_matrix_of_the_block(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", "llama-wide")
    text = tmp_path / "text.txt"
    text.write_text(tiny_models.text())
    command = [sys.executable, "-m", "benchmarks.obc", "--block", "1", "--json", str(tmp_path / "rows.json")]
    command += ["--model", str(folder), "--calibration", str(text), "--nsamples", "4", "--calibration-seqlen", "32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "rows.json").read_text())
    assert document["benchmark"] == "obc"
    means = {(row["case"], row["metric"]): row["value"] for row in document["rows"] if row["case"].endswith("geometric mean")}
    assert len(means) == 4 + 4 + 3
    assert all(f"{value:.4g}" in done.stdout for value in means.values())
    for case in ("50%", "2:4"):
        by_method = {m: means[f"{case} geometric mean", f"error {m}"] for m in ("obc", "sparsegpt", "wanda", "magnitude")}
        assert by_method["obc"] < by_method["sparsegpt"] < min(by_method["wanda"], by_method["magnitude"])
    assert sum(row["metric"].startswith("time ") for row in document["rows"]) == 7 * len(means)
