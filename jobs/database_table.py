"""The table of model databases: what a tenant's jobs have built, wherever the workers keep it."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from jobs.access.tables import Owned


class ModelDatabase(Owned):
    """One database, known by its contents. The jobs that chose from it refer to it."""

    __tablename__ = "databases"
    __table_args__ = (
        UniqueConstraint("tenant_id", "key", name="uq_databases_key"),
        Index("ix_databases_page", "tenant_id", "created_at", "id"),
    )

    key: Mapped[str] = mapped_column(String(64))  # of model, calibration, levels and circumstances
    kind: Mapped[str] = mapped_column(String(16))  # levels, structures
    model: Mapped[str] = mapped_column(Text)
    levels: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float]  # of building it
    created_at: Mapped[datetime]  # when the job that built it ended
    used_at: Mapped[datetime]  # likewise of the last one that chose from it
