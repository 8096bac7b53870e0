"""The memory of a runner and all that it has started, as the system tells it to their supervisor."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_ANONYMOUS = re.compile(rb"^RssAnon:\s*(\d+) kB$", re.MULTILINE)


def members(leader: int) -> Iterator[int]:
    """The processes of a session or group, by the process that leads it."""
    for pid in psutil.pids():
        with suppress(OSError):  # it has just ended, or belongs to somebody whom we must not ask about
            if os.getsid(pid) == leader or os.getpgid(pid) == leader:
                yield pid


def anonymous_bytes(pid: int) -> int:
    """Resident memory that is no file's; where the system does not tell them apart, all of it. 0 of one that is gone."""
    try:
        if sys.platform != "linux":
            return int(psutil.Process(pid).memory_info().rss)
        found = _ANONYMOUS.search(Path(f"/proc/{pid}/status").read_bytes())  # a zombie has no such line
        return int(found[1]) * 1024 if found else 0
    except (OSError, psutil.Error):
        return 0


def unlinked_bytes(pid: int, folder: Path) -> int:
    """Of files below `folder` that have no name any more, but are mapped and take their space until the process ends."""
    begin, total = f"{folder}/".encode(), 0
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_bytes().splitlines():
            path = line.split(maxsplit=5)[5:]
            if path and path[0].startswith(begin) and path[0].endswith(b" (deleted)"):
                first, _, last = line.split(maxsplit=1)[0].partition(b"-")
                total += int(last, 16) - int(first, 16)
    return total
