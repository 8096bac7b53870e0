"""What the service's own processes tell of themselves: workers, who keeps house, and totals that outlive jobs."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Double, String
from sqlalchemy.orm import Mapped, mapped_column

from jobs.base import Base


class Worker(Base):
    """A worker process. It renews `heartbeat_at`; which jobs it has is written in theirs (`owner`)."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)  # a ULID
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    version: Mapped[str] = mapped_column(String(64))
    slots: Mapped[list[dict[str, Any]]]  # a `Slot` each, in the order of their numbers
    queues: Mapped[list[str]]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)  # that one job may have
    memory_free_bytes: Mapped[int] = mapped_column(BigInteger)
    disk_bytes: Mapped[int] = mapped_column(BigInteger)  # where the work folders are
    disk_free_bytes: Mapped[int] = mapped_column(BigInteger)
    is_draining: Mapped[bool] = mapped_column(default=False)  # takes no job any more
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime] = mapped_column(index=True)


class Beat(Base):
    """The last sign of life of something that must go on, such as the housekeeping."""

    __tablename__ = "beats"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = mapped_column(String(255))
    beat_at: Mapped[datetime]


class Tally(Base):
    """A total over all jobs that have ended, also those that were deleted since; written by the housekeeping alone."""

    __tablename__ = "tallies"

    metric: Mapped[str] = mapped_column(String(32), primary_key=True)
    label: Mapped[str] = mapped_column(String(32), primary_key=True)
    bucket: Mapped[str] = mapped_column(String(16), primary_key=True)  # upper bound of a histogram's bucket, or `sum`
    value: Mapped[float] = mapped_column(Double)
