"""A program kept apart from its host: no network, few files, no privileges, no look into the process that started it.

`isolated` wraps a command; `launcher` runs in the child, takes what can be taken away there, and becomes the command;
`evidence` says, from inside, what holds. Every measure is taken where the kernel allows it and left out where it does not:
Linux with its usual privileges gives all of them, a container may not, other systems give none. Stdlib only.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = Path(__file__).parents[2]
ROOMS = ("compression", "jobs", "worker")  # that a runner imports
_LAUNCH = "import sys; sys.path.append(sys.argv[1]); from compression.isolation.launcher import main; main(sys.argv[2:])"


@dataclass(frozen=True)
class Reach:
    """What an isolated program may open, besides the system's and Python's own files.

    Args:
        read: files and folders, with what lies in them. What is not there is left out.
        write: the same, for writing as well.
        user: whose rights it has, by name; needs root. None: those of the caller.
        names_threads: it may write names of threads to /proc, without which CUDA's driver does not work.
    """

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    user: str | None = None
    names_threads: bool = False


def isolated(command: Sequence[str], reach: Reach) -> tuple[str, ...]:
    """What runs `command` isolated; it may also read the files it names. The process stays one: its number, pipes and end."""
    own = [Path(word) for word in command if Path(word).is_absolute() and Path(word).is_file()]
    options = [
        *_options("--list", (PACKAGES,)),  # to import from it; a checkout may hold more than our rooms, such as secrets
        *_options("--read", (*_python(), *own, *reach.read)),
        *_options("--write", reach.write),
    ]
    options += [] if reach.user is None else ["--user", reach.user]
    options += ["--name-threads"] if reach.names_threads else []
    return (sys.executable, "-I", "-S", "-c", _LAUNCH, str(PACKAGES), *options, "--", *command)


def _options(name: str, paths: Iterable[Path]) -> list[str]:
    return [word for path in dict.fromkeys(paths) for word in (name, str(path))]


def _python() -> list[Path]:
    """Where this interpreter may import from, virtual environments included."""
    sites = [path for path in map(Path, sys.path) if path.name in ("site-packages", "dist-packages")]
    return [*map(Path, (sys.prefix, sys.base_prefix, sys.exec_prefix)), *sites, *(PACKAGES / room for room in ROOMS)]
