"""The benchmark of random SIGKILLs runs, kills one process of each kind, and finds nothing lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.disturbances import KINDS
from benchmarks.faults import WORKERS

STARTED_ONCE = 2 + WORKERS  # interface, housekeeper, workers


@pytest.mark.slow
def test_nothing_is_lost_when_one_process_of_each_kind_is_killed(tmp_path: Path) -> None:
    rows_file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks.faults", "--quick", "--keep", str(tmp_path), "--json", str(rows_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(rows_file.read_text())
    rows = {(row["case"], row["metric"]): row["value"] for row in document["rows"]}
    assert {kind: rows["kills", kind] for kind in KINDS} == dict.fromkeys(KINDS, 1)
    assert rows["jobs", "succeeded"] == rows["jobs", "asked"] >= document["environment"]["jobs"] == 3
    # A kill costs an attempt only where it meets one at work, and chance decides that; what was killed has started again.
    assert rows["jobs", "attempts, all"] >= rows["jobs", "asked"]
    assert rows["processes", "started"] >= STARTED_ONCE + len(KINDS.keys() - {"broker", "runner"})
    assert rows["audit", "violations"] == len(document["environment"]["violations"]) == 0
