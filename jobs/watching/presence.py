"""Workers as they tell of themselves: announced, renewed, lost, and what each is doing.

What a worker does is no column of its own: the owner of a running job is `WORKER/SLOT`, so that the answer never lags behind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from jobs import transitions
from jobs.states import State
from jobs.tables import Job, Worker
from jobs.watching.devices import Slot

FORGOTTEN_AFTER = timedelta(hours=1)  # a lost worker is shown for as long

WorkerState = Literal["idle", "busy", "draining", "lost"]


@dataclass(frozen=True)
class Resources:
    """Of a worker's host, in bytes. Args: memory_bytes: that one job may have."""

    memory_bytes: int
    memory_free_bytes: int
    disk_bytes: int
    disk_free_bytes: int


@dataclass(frozen=True)
class RunningJob:
    """A job on a slot of a worker."""

    job_id: str
    tenant_id: str


@dataclass(frozen=True)
class WorkerStatus:
    """A worker at this moment. Args: running: by the slot's number."""

    worker: Worker
    slots: Sequence[Slot]
    running: Mapping[int, RunningJob]
    state: WorkerState


def owner_of(worker_id: str, slot: int) -> str:
    """What a job that this slot runs has as its owner."""
    return f"{worker_id}/{slot}"


def announce(session: Session, worker: Worker) -> None:
    """Write a worker that has started, or one whose row was removed while it was away."""
    session.merge(worker)


def renew(session: Session, worker_id: str, resources: Resources, *, is_draining: bool) -> bool:
    """A heartbeat. Returns: False where there is no such row any more, so that the worker announces itself again."""
    renewed = (
        update(Worker)
        .where(Worker.id == worker_id)
        .values(
            heartbeat_at=transitions.now(),
            is_draining=is_draining,
            **asdict(resources),
        )
        .returning(Worker.id)
    )
    return session.scalar(renewed) is not None


def leave(session: Session, worker_id: str) -> None:
    """The worker has ended in order."""
    session.execute(delete(Worker).where(Worker.id == worker_id))


def forget_lost(session: Session) -> int:
    """Remove workers that were lost long ago. Returns: how many."""
    lost = delete(Worker).where(Worker.heartbeat_at < transitions.now() - FORGOTTEN_AFTER).returning(Worker.id)
    return len(session.scalars(lost).all())


def workers(session: Session, lost_after_s: float) -> list[WorkerStatus]:
    """Every worker that is known, in the order in which they started."""
    running: dict[str, dict[int, RunningJob]] = {}
    held = select(Job.id, Job.tenant_id, Job.owner).where(Job.state == State.RUNNING)
    for job_id, tenant_id, owner in session.execute(held):
        worker_id, _, slot = (owner or "").partition("/")
        if slot.isdecimal():
            running.setdefault(worker_id, {})[int(slot)] = RunningJob(job_id, tenant_id)
    then = transitions.now() - timedelta(seconds=lost_after_s)
    rows = session.scalars(select(Worker).order_by(Worker.started_at, Worker.id)).all()
    return [_status(row, running.get(row.id, {}), then) for row in rows]


def _status(worker: Worker, running: Mapping[int, RunningJob], then: datetime) -> WorkerStatus:
    state: WorkerState = "busy" if running else "idle"
    if worker.is_draining:
        state = "draining"
    if worker.heartbeat_at < then:
        state = "lost"
    return WorkerStatus(worker, tuple(map(Slot.model_validate, worker.slots)), running, state)
