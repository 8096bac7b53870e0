"""What the API answers about workers."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from jobs.watching.devices import Slot
from jobs.watching.presence import RunningJob, WorkerState, WorkerStatus


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class SlotView(Slot):
    """A device of a worker, which computes one job at a time."""

    is_busy: bool
    job: str | None = Field(description="The job at work; null for none, and for another tenant's.")


class WorkerView(_View):
    """A worker process."""

    id: str
    host: str
    version: str
    state: WorkerState = Field(
        description="`draining` takes no job any more; `lost` has not been heard of, and its jobs go to others."
    )
    slots: tuple[SlotView, ...]
    queues: tuple[str, ...] = Field(description="Whose rings it answers.")
    memory_bytes: int = Field(description="Host memory that one job may have.")
    memory_free_bytes: int
    disk_bytes: int = Field(description="Where the work folders of its jobs are.")
    disk_free_bytes: int
    started_at: datetime
    heartbeat_at: datetime


def worker_view(status: WorkerStatus, tenant_id: str) -> WorkerView:
    """A worker as this tenant may see it."""
    worker = status.worker
    slots = tuple(_slot_view(slot, status.running.get(number), tenant_id) for number, slot in enumerate(status.slots))
    return WorkerView(
        id=worker.id,
        host=worker.host,
        version=worker.version,
        state=status.state,
        slots=slots,
        queues=tuple(worker.queues),
        memory_bytes=worker.memory_bytes,
        memory_free_bytes=worker.memory_free_bytes,
        disk_bytes=worker.disk_bytes,
        disk_free_bytes=worker.disk_free_bytes,
        started_at=worker.started_at,
        heartbeat_at=worker.heartbeat_at,
    )


def _slot_view(slot: Slot, running: RunningJob | None, tenant_id: str) -> SlotView:
    own = running.job_id if running is not None and running.tenant_id == tenant_id else None
    return SlotView(**slot.model_dump(), is_busy=running is not None, job=own)
