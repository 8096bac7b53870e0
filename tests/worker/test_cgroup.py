"""A runner's control group: the kernel's own, where this machine lets us make one, and files that look like each version's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worker.cgroup import PREFIX, limit_of, make_group

MEBIBYTE = 2**20
GREEDY = f"import sys; sys.stdin.readline(); taken = b'1' * {256 * MEBIBYTE}"


def version_2(folder: Path, subtree: str) -> Path:
    folder.mkdir()
    (folder / "cgroup.controllers").write_text("cpu memory\n")
    (folder / "cgroup.subtree_control").write_text(subtree)
    return folder


def test_the_kernel_ends_what_exceeds_its_group() -> None:
    group = make_group("test", 64 * MEBIBYTE, None)
    if group is None:
        pytest.skip("this process may make no control group here")
    try:
        with subprocess.Popen([sys.executable, "-c", GREEDY], stdin=subprocess.PIPE) as process:
            group.add(process.pid)
            process.communicate(b"go\n", timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert group.oom_kills() == 1
    finally:
        group.remove()
    assert not group.folder.exists()


def test_version_2_is_limited_without_swap(tmp_path: Path) -> None:
    parent = version_2(tmp_path / "group", "memory\n")
    made = parent / f"{PREFIX}{os.getpid()}-job"
    made.mkdir()
    (made / "memory.swap.max").write_text("max")
    group = make_group("job", 1000, parent)
    assert group is not None and group.folder == made
    assert (made / "memory.max").read_text() == "1000"
    assert (made / "memory.swap.max").read_text() == "0"
    group.add(7)
    assert (made / "cgroup.procs").read_text() == "7"
    (made / "memory.events").write_text("oom 3\noom_kill 2\noom_group_kill 0\n")
    assert group.oom_kills() == 2


def test_there_is_no_group_where_the_operator_has_not_arranged_for_it(tmp_path: Path) -> None:
    assert make_group("job", 1000, version_2(tmp_path / "group", "cpu\n")) is None
    assert make_group("job", 1000, tmp_path / "nowhere") is None


def test_groups_of_workers_that_are_gone_are_removed(tmp_path: Path) -> None:
    parent = version_2(tmp_path / "group", "memory\n")
    gone, ours = parent / f"{PREFIX}{2**22 + 1}-old", parent / f"{PREFIX}1-alive"
    gone.mkdir()
    ours.mkdir()
    make_group("job", 1000, parent)
    assert (gone.exists(), ours.exists()) == (False, True)


def test_the_least_limit_around_counts(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    assert limit_of(inner) is None
    (inner.parent / "memory.max").write_text("5000\n")
    assert limit_of(inner) == 5000
    (inner / "memory.max").write_text("3000\n")
    assert limit_of(inner) == 3000
