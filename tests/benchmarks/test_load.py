"""The benchmark of the interface under load runs, and no reader misses an event."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_every_request_is_measured_and_no_reader_misses_an_event(tmp_path: Path, backend: str) -> None:
    command = [sys.executable, "-m", "benchmarks.load", "--quick", "--backend", backend, "--json", str(tmp_path / "rows.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {row["case"] for row in rows} >= {f"{backend} 200", f"{backend} 1000", f"{backend} 1000, 8 at once"}
    assert [row["value"] for row in rows if row["metric"] == "events missed"] == [0, 0]
    assert all(row["value"] > 0 for row in rows if row["metric"].endswith(("p50", "p99", "rate", "deliveries")))
