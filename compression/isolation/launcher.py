"""Takes away, then becomes the command; see `isolated`.

    [--list PATH] [--read PATH] [--write PATH] [--user NAME] [--name-threads] -- COMMAND

Runs before anything untrusted, in a single thread and without site packages.
"""

import argparse
import os
import pwd
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from compression.isolation import capabilities
from compression.isolation.evidence import has_no_network
from compression.isolation.landlock import Landlock
from compression.isolation.libc import CLONE_NEWNET, CLONE_NEWUSER, no_new_privileges, unshare
from compression.isolation.thread_names import protect_switches, writable

SYSTEM = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/proc", "/sys", "/nix/store", "/run/opengl-driver"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/mime.types"),
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/OpenCL", "/etc/nvidia"),
)
DEVICES = ("/dev",)  # null, urandom, shared memory, GPUs; their own rights still hold
OPEN_FILES = 8192
PROCESSES = 4096  # and threads, of all runners of the user together


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="append", default=[], dest="listed")
    parser.add_argument("--read", action="append", default=[])
    parser.add_argument("--write", action="append", default=[])
    parser.add_argument("--user")
    parser.add_argument("--name-threads", action="store_true")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    isolate(_rules(options.listed, options.read, options.write), options.user, names_threads=options.name_threads)
    os.execvp(options.command[0], options.command)  # noqa: S606  a command of ours, without a shell


def isolate(rules: Landlock | None, user: str | None, *, names_threads: bool) -> None:
    """In this order: what needs privileges, then giving them up, then what needs none. The rules' paths are open already.

    Args: names_threads: see `thread_names`.
    Raises: OSError, KeyError: the user that the operator named is not there, or only root can become it; nothing runs then.
    """
    _limit(PROCESSES if user is not None else None)
    if sys.platform == "linux":
        _leave_network()
        if names_threads:
            with suppress(OSError):
                protect_switches()
    if user is not None:
        _become(user)
    if rules is not None and names_threads:
        rules.let_write(writable())
    if sys.platform == "linux":  # elsewhere the numbers of its system calls mean something else
        _give_up(rules)


def _give_up(rules: Landlock | None) -> None:
    with suppress(OSError):
        no_new_privileges()
        capabilities.drop()
        if rules is not None:
            rules.restrict()


def _rules(listed: Sequence[str], read: Sequence[str], write: Sequence[str]) -> Landlock | None:
    if sys.platform != "linux":
        return None
    try:
        return Landlock(listed, (*SYSTEM, *read), (*DEVICES, *write))
    except OSError:  # an old kernel, or a container that forbids it
        return None


def _limit(processes: int | None) -> None:
    """No core dumps, which would hold the model; open files within reason; processes where their user has no others."""
    for kind, wanted in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, OPEN_FILES), (resource.RLIMIT_NPROC, processes)):
        if wanted is None:
            continue
        _, hard = resource.getrlimit(kind)
        amount = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (amount, amount))


def _leave_network() -> None:
    """Into a namespace with a dead loopback: directly with the privilege to, else through a user namespace of our own."""
    if has_no_network():  # within isolation already, where the namespace's maps could not be written
        return
    with suppress(OSError):
        try:
            unshare(CLONE_NEWNET)
        except PermissionError:
            _through_user_namespace()


def _through_user_namespace() -> None:
    user, group = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER | CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")  # the same numbers inside, so that nothing looks different
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _become(name: str) -> None:
    entry = pwd.getpwnam(name)
    if entry.pw_uid == os.getuid():
        return
    os.initgroups(name, entry.pw_gid)  # with those that may open a GPU
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
