"""The disk fills up while a result is published, on a real small disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("small_disk.py")
UNSHARE = ("unshare", "--mount", "--propagation", "private")


def test_a_store_that_fills_up_fails_the_job_by_name_and_holds_nothing_that_looks_whole(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    can_mount = [*UNSHARE, "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    try:
        subprocess.run(can_mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    ran = subprocess.run([*UNSHARE, sys.executable, str(PROGRAM), str(tmp_path), str(disk)], capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    found = json.loads(ran.stdout)
    failed, succeeded = found["jobs"]
    assert (failed["state"], failed["files"]) == ("failed", 0)
    assert failed["error"]["type"] == "disk-full"
    assert "Attempt 2 of 2 was the last" in failed["error"]["detail"] and "Free some space" in failed["error"]["detail"]
    assert max(found["stored"].values(), default=0) < 10_000_000, "no part of the large file"
    assert (succeeded["state"], succeeded["files"]) == ("succeeded", 3)
    assert found["scratch"] == []
