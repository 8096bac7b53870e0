"""What a job is found by in a list: one row for its model and one for each of its labels, in the order of the list."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from jobs.base import Base

MAX_VALUE = 255  # characters; of a longer model only so much, to stay within what an index takes


class Facet(Base):
    """One name and value of a job. Beside it, what a list needs without the job's own row."""

    __tablename__ = "job_facets"
    __table_args__ = (Index("ix_job_facets_page", "tenant_id", "name", "value", "created_at", "job_id"),)

    id: Mapped[str] = mapped_column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)  # as of a Job
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    value: Mapped[str] = mapped_column(String(MAX_VALUE))
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    created_at: Mapped[datetime]
