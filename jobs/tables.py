"""The database: jobs, the outbox of rings, each job's events, its artifacts and the solutions that it keeps."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Enum, ForeignKey, Index, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from jobs.states import State, Task


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in and out. SQLite knows no zones and keeps the naive UTC text, which also sorts correctly."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "a time without a zone is ambiguous"
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, _: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Parent of all tables; JSON nulls are SQL nulls."""

    type_annotation_map = {  # noqa: RUF012  SQLAlchemy's own way to configure it
        datetime: UtcDateTime,
        dict[str, Any]: JSON(none_as_null=True),
        State: Enum(State, native_enum=False, length=16, values_callable=lambda states: [state.value for state in states]),
    }


class Job(Base):
    """One job. The row is the truth; a message in the broker is only a doorbell."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_claim", "state", "priority", "created_at", "id"),
        Index("ix_jobs_page", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(26), primary_key=True)  # a ULID
    task: Mapped[Task] = mapped_column(String(16), default="compress", server_default="compress")
    parent_id: Mapped[str | None] = mapped_column(  # of an export: the job whose solutions it writes
        ForeignKey("jobs.id", name="fk_jobs_parent_id", ondelete="SET NULL"), index=True
    )
    state: Mapped[State]
    priority: Mapped[int] = mapped_column(default=0)  # higher is served first
    model: Mapped[str] = mapped_column(Text)
    request: Mapped[dict[str, Any]]  # as sent
    recipe: Mapped[dict[str, Any]]  # as resolved
    labels: Mapped[dict[str, Any]]

    attempt: Mapped[int] = mapped_column(default=0)  # the fence: rises with every claim and never falls
    max_attempts: Mapped[int]
    owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    claimable_at: Mapped[datetime]  # later than now while a retry backs off
    cancel_requested: Mapped[bool] = mapped_column(default=False)

    stage: Mapped[str | None] = mapped_column(String(16))
    activity: Mapped[str | None] = mapped_column(String(16))
    block: Mapped[int | None]
    blocks: Mapped[int | None]
    fraction: Mapped[float | None]
    eta_s: Mapped[float | None]
    forecast: Mapped[dict[str, Any] | None]  # bytes of weights foretold at submit; a `Forecast`
    solution_bytes: Mapped[int | None] = mapped_column(BigInteger)  # kept for exports; None once they are gone
    verdict: Mapped[str | None] = mapped_column(String(16))  # of the report, for lists; None: not judged
    error: Mapped[dict[str, Any] | None]
    last_seq: Mapped[int] = mapped_column(default=0)  # number of the newest event

    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    started_at: Mapped[datetime | None]  # of the first attempt
    finished_at: Mapped[datetime | None]


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
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class Solution(Base):
    """A file that a finished job keeps for later exports; like an artifact, but no part of what a user downloads."""

    __tablename__ = "solutions"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
