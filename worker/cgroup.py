"""A control group for one runner, in which the kernel itself holds the memory limit: version 2 or 1, where one can be made.

A group counts mapped files, too, but gives up their pages before it ends anybody: what it limits is anonymous memory. Beside
the sampling it catches what grows faster than the samples follow.
"""

import logging
import os
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PREFIX = "scalpel-"
EMPTY_WITHIN_S = 2.0  # the kernel takes a moment to let go of processes that have ended

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Files:
    """What a version calls its files."""

    limit: str
    swap: str
    swap_value: str  # so that the group does not swap instead
    events: str


FILES: dict[Literal[1, 2], _Files] = {
    2: _Files("memory.max", "memory.swap.max", "0", "memory.events"),
    1: _Files("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "{limit}", "memory.oom_control"),
}


class MemoryCgroup:
    """A group that exists. Made by `make_group`."""

    def __init__(self, folder: Path, files: _Files) -> None:
        self.folder, self._files = folder, files

    def limit(self, limit_bytes: int) -> None:
        """Raises: OSError."""
        (self.folder / self._files.limit).write_text(str(limit_bytes))
        swap = self.folder / self._files.swap
        if swap.exists():
            swap.write_text(self._files.swap_value.format(limit=limit_bytes))

    def add(self, pid: int) -> None:
        """Raises: OSError."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def oom_kills(self) -> int:
        """How many of its processes the kernel has ended because the group was full."""
        with suppress(OSError):
            found = re.search(r"^oom_kill (\d+)$", (self.folder / self._files.events).read_text(), re.MULTILINE)
            return int(found[1]) if found else 0
        return 0

    def remove(self) -> None:
        """Once its processes have ended; what cannot be removed is left to the next start."""
        deadline = time.monotonic() + EMPTY_WITHIN_S
        while True:
            try:
                return self.folder.rmdir()
            except FileNotFoundError:
                return None
            except OSError:
                if time.monotonic() > deadline:
                    log.warning("the control group %s could not be removed", self.folder, exc_info=True)
                    return None
                time.sleep(0.02)


def make_group(name: str, limit_bytes: int, parent: Path | None) -> MemoryCgroup | None:
    """A group for one runner; None where this process may not make any.

    Args: parent: as the operator names it; None: the group that this process is in.
    """
    parent = parent or own_folder()
    if parent is None:
        return None
    version: Literal[1, 2] = 2 if (parent / "cgroup.controllers").exists() else 1
    if version == 2 and "memory" not in _words(parent / "cgroup.subtree_control"):
        return None  # a group with processes of its own cannot have limited ones below; it takes an operator to arrange it
    _remove_leftovers(parent)
    group = MemoryCgroup(parent / f"{PREFIX}{os.getpid()}-{name}", FILES[version])
    try:
        group.folder.mkdir(exist_ok=True)
        group.limit(limit_bytes)
    except OSError as error:
        log.info("no control group below %s: %s", parent, error)
        with suppress(OSError):
            group.folder.rmdir()
        return None
    return group


def own_folder() -> Path | None:
    """The group that limits this process's memory; None where there is none to be seen."""
    if sys.platform != "linux":
        return None
    try:
        groups = [line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()]
        mounts = [_mount(line) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return None
    unified = next((path for names, path in groups if not names), None)
    memory = next((path for names, path in groups if "memory" in names.split(",")), None)
    for kind, options, root, point in mounts:
        path = {"cgroup2": unified, "cgroup": memory if "memory" in options else None}.get(kind)
        if path is not None:
            folder = point / os.path.relpath(path, root) if path.startswith(root) else point
            if (folder / "cgroup.procs").exists() and (kind == "cgroup" or "memory" in _words(folder / "cgroup.controllers")):
                return folder
    return None


def limit_of(folder: Path) -> int | None:
    """The least limit of a group and those around it, in bytes; None for none."""
    found: list[int] = []
    for group in (folder, *folder.parents):
        for files in FILES.values():
            with suppress(OSError, ValueError):  # version 2 says "max" for none
                found.append(int((group / files.limit).read_text()))
    return min(found, default=None)


def _mount(line: str) -> tuple[str, list[str], str, Path]:
    """(kind, options of the file system, root within it, mount point) of a line of mountinfo."""
    before, _, after = line.partition(" - ")
    root, point = before.split()[3:5]
    kind, _, options = after.split()[:3]
    return kind, options.split(","), root, Path(point)


def _words(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text().split()
    return []


def _remove_leftovers(parent: Path) -> None:
    """Groups of workers that were killed. One with processes in it cannot be removed."""
    for folder in parent.glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            with suppress(OSError):
                folder.rmdir()
