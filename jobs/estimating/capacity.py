"""What this server's workers have to give one job, as far as it is known, and the refusal of what cannot fit."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from jobs.errors import CannotFit
from jobs.settings import Settings
from jobs.watching.presence import workers

IN_WORDS = {
    "host_memory": "host memory",
    "device_memory": "device memory",
    "disk": "space in the work folder",
}


@dataclass(frozen=True)
class Limits:
    """Of one job, in bytes; None: not known, so that nothing is refused for it.

    Args: disk_bytes: of a job's work folder, the artifact in it included.
    """

    memory_bytes: int | None = None
    disk_bytes: int | None = None
    device_memory_bytes: int | None = None


def limits_of_server(session: Session, settings: Settings) -> Limits:
    """The largest that any worker of this server gives to one job: as set, else what the workers say that are heard of.

    Disks count whole, since what fills them today may be gone when the job's turn comes.
    """
    known = [status for status in workers(session, settings.worker_lost_s) if status.state != "lost"]
    gpus = [slot.memory_bytes for status in known for slot in status.slots if slot.is_gpu]
    told = [memory for memory in gpus if memory is not None]
    return Limits(
        memory_bytes=settings.max_memory_bytes or max((status.worker.memory_bytes for status in known), default=None),
        disk_bytes=settings.max_disk_bytes or max((status.worker.disk_bytes for status in known), default=None),
        device_memory_bytes=settings.max_device_memory_bytes or (max(told, default=None) if len(told) == len(gpus) else None),
    )


@dataclass(frozen=True)
class Misfit:
    """A limit that an estimate exceeds. Args: field, cure: what in the request would make it smaller, and how."""

    limit: str
    limit_bytes: int
    needed_bytes: int
    field: str
    cure: str


def misfits(needed: Mapping[str, int], limits: Limits, cures: Mapping[str, tuple[str, str]]) -> tuple[Misfit, ...]:
    """Args:
    needed: bytes by `host_memory`, `device_memory` and `disk`, as far as they are needed.
    cures: (field, words) by the same names.
    """
    given = {
        "host_memory": limits.memory_bytes,
        "device_memory": limits.device_memory_bytes,
        "disk": limits.disk_bytes,
    }
    return tuple(
        Misfit(name, limit, needed[name], *cures[name])
        for name, limit in given.items()
        if limit is not None and needed.get(name, 0) > limit
    )


def refuse(found: Misfit) -> CannotFit:
    """The error that tells a user of a misfit."""
    return CannotFit(found.field, IN_WORDS[found.limit], found.limit_bytes, found.needed_bytes, found.cure)
