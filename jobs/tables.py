"""The database: jobs, the outbox of rings, each job's events, its checkpoints, artifacts and kept solutions.

Every column named `sha256` refers to an object of the artifact store and keeps it there (jobs/store/retention.py).

Importing this module makes every table known; those of tenants and what is theirs alone are in `jobs/access/tables.py`, of
data sets and uploaded models in `jobs/uploads/tables.py`, those of the service's own processes in `jobs/watching/tables.py`.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Enum, ForeignKey, Index, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from jobs.access.browser_table import BrowserSession
from jobs.access.tables import ApiKey, AuditEntry, Owned, Secret, Tenant, Usage
from jobs.base import Base
from jobs.database_table import ModelDatabase
from jobs.facet_table import Facet
from jobs.idempotency_table import Idempotent
from jobs.needs import Need
from jobs.states import State, Task
from jobs.sweep_table import Sweep
from jobs.uploads.tables import Dataset, JobInput, ModelFile, ModelPart, UploadedModel
from jobs.watching.tables import Beat, Tally, Worker
from jobs.webhooks.tables import Delivery, Webhook

__all__ = [
    "ApiKey", "Artifact", "AuditEntry", "Base", "Beat", "BrowserSession", "Checkpoint", "Dataset", "Delivery", "Event",
    "Facet", "Idempotent", "Job", "JobInput", "ModelDatabase", "ModelFile", "ModelPart", "Ring", "Secret", "Solution",
    "Sweep", "Tally", "Tenant", "UploadedModel", "Usage", "Webhook", "Worker",
]  # fmt: skip

STATE = Enum(State, native_enum=False, length=16, values_callable=lambda states: [state.value for state in states])


class Job(Owned):
    """One job. The row is the truth; a message in the broker is only a doorbell."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_claim", "state", "tenant_id", "need", "priority", "created_at", "id"),
        Index("ix_jobs_due", "state", "need", "claimable_at"),
        Index("ix_jobs_tally", "is_tallied", "state"),
        Index("ix_jobs_page", "tenant_id", "created_at", "id"),
        Index("ix_jobs_state_page", "tenant_id", "state", "created_at", "id"),
    )

    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", name="fk_jobs_tenant_id"))
    task: Mapped[Task] = mapped_column(String(16), default="compress", server_default="compress")
    parent_id: Mapped[str | None] = mapped_column(  # of an export: the job whose solutions it writes
        ForeignKey("jobs.id", name="fk_jobs_parent_id", ondelete="SET NULL"), index=True
    )
    sweep_id: Mapped[str | None] = mapped_column(
        ForeignKey("sweeps.id", name="fk_jobs_sweep_id", ondelete="SET NULL"), index=True
    )
    sweep_position: Mapped[int | None]  # among the recipes of the sweep
    database_id: Mapped[str | None] = mapped_column(  # that its goal's levels were chosen from
        ForeignKey("databases.id", name="fk_jobs_database_id", ondelete="SET NULL"), index=True
    )
    state: Mapped[State] = mapped_column(STATE)
    priority: Mapped[int] = mapped_column(default=0)  # higher is served first
    need: Mapped[Need] = mapped_column(String(8), default="any", server_default="any")  # of the device that computes it
    model: Mapped[str] = mapped_column(Text)
    request: Mapped[dict[str, Any]]  # as sent
    recipe: Mapped[dict[str, Any]]  # as resolved
    labels: Mapped[dict[str, Any]]
    trace: Mapped[str | None] = mapped_column(String(64))  # traceparent of the request that asked for it

    attempt: Mapped[int] = mapped_column(default=0)  # the fence: rises with every claim and never falls
    max_attempts: Mapped[int]
    owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None]  # by the newest attempt
    running_s: Mapped[float] = mapped_column(default=0.0, server_default="0")  # that ended attempts have held it
    run_limit_s: Mapped[float | None]  # that all attempts together may hold it; None: no limit
    claimable_at: Mapped[datetime]  # later than now while a retry backs off
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    pause_requested: Mapped[bool] = mapped_column(default=False, server_default=false())

    stage: Mapped[str | None] = mapped_column(String(16))
    activity: Mapped[str | None] = mapped_column(String(16))
    block: Mapped[int | None]
    blocks: Mapped[int | None]
    fraction: Mapped[float | None]
    eta_s: Mapped[float | None]
    estimate: Mapped[dict[str, Any] | None]  # what the job was expected to need at submit; an `Estimate`
    forecast: Mapped[dict[str, Any] | None]  # bytes of weights foretold at submit; a `Forecast`
    artifacts_deleted_at: Mapped[datetime | None]  # all but the report were removed then, as a user asked
    solution_bytes: Mapped[int | None] = mapped_column(BigInteger)  # kept for exports; None once they are gone
    artifacts_expired_at: Mapped[datetime | None]  # all but the report were removed then, by the operator's policy
    verdict: Mapped[str | None] = mapped_column(String(16))  # of the report, for lists; None: not judged
    error: Mapped[dict[str, Any] | None]
    publication: Mapped[dict[str, Any] | None]  # where a publication has put the files; a `Published`
    last_seq: Mapped[int] = mapped_column(default=0)  # number of the newest event

    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    started_at: Mapped[datetime | None]  # of the first attempt
    finished_at: Mapped[datetime | None]
    is_tallied: Mapped[bool] = mapped_column(default=False, server_default=false())  # in the totals


class MeasuredRate(Base):
    """How long a unit of one activity took in a job that succeeded (`compression/work.py`). Outlives the job."""

    __tablename__ = "measured_rates"
    __table_args__ = (Index("ix_measured_rates_kind", "activity", "method", "device", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(String(255))  # its name, as the report's environment has it
    method: Mapped[str] = mapped_column(String(16))  # empty where the activity's rate does not depend on it
    activity: Mapped[str] = mapped_column(String(16))
    work: Mapped[float]
    seconds: Mapped[float]
    created_at: Mapped[datetime]


class Ring(Base):
    """The outbox: a ring that is still to be published. Written with the change it announces, deleted once sent."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    due_at: Mapped[datetime] = mapped_column(index=True)


class Event(Base):
    """What happened to a job, append-only, numbered from 1 without gaps."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(String(16))
    data: Mapped[dict[str, Any]]
    attempt: Mapped[int]
    created_at: Mapped[datetime]


class Artifact(Base):
    """A file that a job gave, by name; its bytes lie in the artifact store under their SHA-256."""

    __tablename__ = "artifacts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class Solution(Base):
    """A file that a finished job keeps for later exports; like an artifact, but no part of what a user downloads."""

    __tablename__ = "solutions"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class Checkpoint(Base):
    """A file from which the next attempt continues, on whatever host; the rows of a job are its manifest.

    They go when the job ends. All rows of a job carry one fingerprint: blocks of unlike passes are never mixed.
    """

    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    fingerprint: Mapped[str] = mapped_column(String(64))  # SHA-256 of the fingerprint file that it belongs to
    attempt: Mapped[int]  # that stored it
    created_at: Mapped[datetime]
