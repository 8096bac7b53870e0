"""What a job's runner may open: the files that its spec names, to read; its own folder and that of its models, to write."""

import os
import pwd
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from compression.isolation import Reach, isolated
from jobs.errors import SettingsError
from jobs.settings import Settings
from worker.folder import JobFolder
from worker.spec import EvaluateSpec, ExportSpec, RunSpec

NVIDIA = Path("/dev/nvidiactl")  # where there is one of its GPUs
AnySpec = RunSpec | EvaluateSpec | ExportSpec


def confined(
    command: Sequence[str], spec: AnySpec, folder: JobFolder, settings: Settings, environment: Mapping[str, str]
) -> Sequence[str]:
    """The runner's command with everything taken away that it can do without. Args: environment: the runner's.

    Raises: SettingsError: the user that the settings name is not there.
    """
    if not settings.runner_isolation:
        return command
    hand_over(folder, spec, settings)
    return isolated(command, reach_of(spec, folder, settings, environment.get("LD_LIBRARY_PATH", "")))


def reach_of(spec: AnySpec, folder: JobFolder, settings: Settings, library_path: str = "") -> Reach:
    """Args: library_path: LD_LIBRARY_PATH of the runner, whose folders it reads, too."""
    spec.cache.mkdir(parents=True, exist_ok=True)
    libraries = [Path(part) for part in library_path.split(os.pathsep) if part.startswith("/")]
    read = tuple(_with_targets(path) for path in _inputs(spec))
    found = tuple(path for paths in read for path in paths)
    user = settings.runner_user if os.geteuid() == 0 else None
    uses_cuda = spec.device != "cpu" and NVIDIA.exists()
    return Reach((*libraries, *found), (folder.root, spec.cache), user, names_threads=uses_cuda)


def hand_over(folder: JobFolder, spec: AnySpec, settings: Settings) -> None:
    """Give the job's folder and that of its models to the runner's user, where it has one of its own.

    What is not ours is left alone: a runner may have put a name there that leads elsewhere.

    Raises: SettingsError: there is no such user.
    """
    if settings.runner_user is None or os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(settings.runner_user)
    except KeyError as error:
        raise SettingsError(f"SCALPEL_RUNNER_USER names {settings.runner_user!r}; this host has no such user") from error
    for path in (spec.cache, folder.root, *folder.root.rglob("*")):
        found = path.lstat()
        if found.st_uid == 0 and (found.st_nlink == 1 or path.is_dir()) and not path.is_symlink():
            os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def _inputs(spec: AnySpec) -> Iterator[Path]:
    yield spec.model_path
    if isinstance(spec, EvaluateSpec) and spec.reference is not None:
        yield spec.reference.path
    if not isinstance(spec, ExportSpec):
        yield from spec.texts.values()


def _with_targets(path: Path) -> list[Path]:
    """A path and, of a folder, the files that links in it lead to: the hub's cache keeps them in a folder of blobs."""
    links = [inside for inside in path.iterdir() if inside.is_symlink()] if path.is_dir() else []
    return [path, *(link.resolve() for link in links)]
