"""Keys under which users sent requests that must not be carried out twice."""

from datetime import datetime
from typing import Any

from sqlalchemy import String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from jobs.access.tables import Owned


class Idempotent(Owned):
    """A key and what became of its request: at work until `held_until`, or answered."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (UniqueConstraint("tenant_id", "key", name="uq_idempotency_keys_key"),)

    key: Mapped[str] = mapped_column(String(255))  # the user's own
    digest: Mapped[str] = mapped_column(String(64))  # SHA-256 of the request
    held_until: Mapped[datetime]  # a request that was not answered by then died with its process
    status: Mapped[int | None]  # None while it is at work
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(index=True)
