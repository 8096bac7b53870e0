"""Room for CUDA's driver, which writes the name of each of its threads to /proc/PID/task/TID/comm.

From version 570 on it gives up where it may not ("OS call failed or operation not supported on this OS", error 304). Landlock
binds a rule to what a path leads to when the rule is made, and for a process that is yet to be started there is no path: so
that all files of /proc must be open for writing, as far as their owners let. Root owns the kernel's switches there, so a
process that stays root first gets them mounted read-only, as in a container.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from compression.isolation.libc import CLONE_NEWNS, MS_BIND, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, mount, unshare

PROC = Path("/proc")
SWITCHES = ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger")  # the worst of them, which stand for all


def protect_switches() -> None:
    """Of /proc, mount all that is not of a process read-only, for this process and what it starts. Raises: OSError."""
    unshare(CLONE_NEWNS)
    mount("none", "/", MS_REC | MS_PRIVATE)
    for path in _not_of_processes():
        mount(str(path), str(path), MS_BIND)
        mount("none", str(path), MS_REMOUNT | MS_BIND | MS_RDONLY)


def are_switches_protected() -> bool:
    """Whether this process could write none of them."""
    return not any(os.access(path, os.W_OK) for path in SWITCHES)


def writable() -> str:
    """What of /proc a process may be allowed to write: as little else as can be had."""
    return str(PROC if are_switches_protected() else PROC / "self")  # itself at least, if none that it starts


def _not_of_processes() -> Iterator[Path]:
    for path in PROC.iterdir():
        if not path.name.isdigit() and not path.is_symlink():
            yield path
