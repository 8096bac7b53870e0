"""The table of sweeps; what came of one stands in its jobs."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from jobs.access.tables import Owned


class Sweep(Owned):
    """Many recipes on one model. Its points are the jobs that refer to it."""

    __tablename__ = "sweeps"
    __table_args__ = (Index("ix_sweeps_page", "tenant_id", "created_at", "id"),)

    model: Mapped[str] = mapped_column(Text)
    request: Mapped[dict[str, Any]]  # as sent
    left_out: Mapped[dict[str, Any]]  # {"recipes": [...]}: combinations that contradict themselves, and why
    created_at: Mapped[datetime]
