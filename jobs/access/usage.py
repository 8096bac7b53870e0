"""What tenants use: jobs by state, bytes kept, and the seconds for which their jobs hold devices."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from jobs.states import State
from jobs.tables import Artifact, Checkpoint, Dataset, Job, ModelPart, Solution, UploadedModel, Usage

WINDOW = timedelta(days=30)


Sum = Select[int]


def _of_jobs(table: type[Artifact | Checkpoint | Solution], tenant_id: str) -> Sum:
    return select(func.sum(table.size_bytes)).join(Job, Job.id == table.job_id).where(Job.tenant_id == tenant_id)


STORED: dict[str, Callable[[str], Sum]] = {
    "artifacts": lambda tenant_id: _of_jobs(Artifact, tenant_id),
    "checkpoints": lambda tenant_id: _of_jobs(Checkpoint, tenant_id),
    "solutions": lambda tenant_id: _of_jobs(Solution, tenant_id),
    "datasets": lambda tenant_id: select(func.sum(Dataset.size_bytes)).where(Dataset.tenant_id == tenant_id),
    "model_parts": lambda tenant_id: (
        select(func.sum(ModelPart.size_bytes))
        .join(UploadedModel, UploadedModel.id == ModelPart.model_id)
        .where(UploadedModel.tenant_id == tenant_id)
    ),
}
"""Table -> the query that sums what a tenant keeps there; a test knows every table with sizes and asks for its entry."""


def count_jobs(session: Session, tenant_id: str, *states: State) -> int:
    return session.scalar(select(func.count()).where(Job.tenant_id == tenant_id, Job.state.in_(states))) or 0


def stored_bytes(session: Session, tenant_id: str) -> int:
    """As its users see it: a file that two of its jobs share counts twice."""
    return sum(int(session.scalar(query(tenant_id)) or 0) for query in STORED.values())


def device_seconds(session: Session, tenant_id: str) -> float:
    """Of the attempts that have ended within the window."""
    since = datetime.now(UTC) - WINDOW
    query = select(func.sum(Usage.device_s)).where(Usage.tenant_id == tenant_id, Usage.ended_at >= since)
    return session.scalar(query) or 0.0


def account(session: Session, job: Job, ended_at: datetime, device_s: float) -> None:
    """Write down for how long a worker has held a job whose attempt ends."""
    session.add(Usage(job_id=job.id, ended_at=ended_at, tenant_id=job.tenant_id, device_s=device_s))
