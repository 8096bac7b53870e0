"""What this host has for a runner."""

import re
from pathlib import Path

import psutil

from jobs.settings import Settings
from worker.cgroup import limit_of, own_folder

SHARE = 0.9  # the rest is for the supervisor, the broker and whatever else keeps the host alive


def memory_limit_bytes(settings: Settings) -> int:
    """Anonymous memory that one runner may have: as set, else nine tenths of what there is."""
    return settings.memory_limit_bytes or int(SHARE * _total_bytes())


def available_bytes() -> int:
    """What could be had at this moment without swapping."""
    return int(psutil.virtual_memory().available)


def oom_kills() -> int:
    """How many processes the kernel has ended on this host since its start because memory ran out; 0 where it does not say."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _total_bytes() -> int:
    folder = own_folder()
    limit = limit_of(folder) if folder else None
    total = int(psutil.virtual_memory().total)
    return total if limit is None else min(limit, total)
