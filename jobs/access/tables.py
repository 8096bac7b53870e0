"""Who may use the service: tenants, their API keys and secrets, what they have used, and what they did."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from jobs.base import Base

LOCAL_TENANT_ID = "0" * 26  # a ULID that no clock gives; the migration makes it, and jobs from before tenants are its own


class Tenant(Base):
    """A team: owns jobs and whatever else users make, and sees nobody else's."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)  # a ULID
    name: Mapped[str] = mapped_column(String(63), unique=True)
    # Its own limits; None: the server's, by settings. Columns, because the claim reads them in SQL (`jobs/access/quotas.py`).
    max_running: Mapped[int | None] = mapped_column(BigInteger)
    max_queued: Mapped[int | None] = mapped_column(BigInteger)
    max_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_device_s: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]  # its keys open nothing from then on
    served_at: Mapped[datetime | None]  # a job of its was last claimed then


class Owned(Base):
    """Parent of every table whose rows belong to a tenant; read and changed through `jobs/scope.py`."""

    __abstract__ = True

    id: Mapped[str] = mapped_column(String(26), primary_key=True)  # a ULID
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)


class ApiKey(Owned):
    """A key of a tenant. The key itself is shown once and not kept; its SHA-256 finds the row."""

    __tablename__ = "api_keys"

    name: Mapped[str] = mapped_column(String(63))  # the user's own word for it
    prefix: Mapped[str] = mapped_column(String(24))  # how the key begins, to know it again
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]  # to the minute
    revoked_at: Mapped[datetime | None]


class Secret(Owned):
    """Something that a tenant entrusts to the service; readable with a master key alone (`jobs/access/secrets.py`)."""

    __tablename__ = "secrets"
    __table_args__ = (UniqueConstraint("tenant_id", "name", name="uq_secrets_name"),)

    name: Mapped[str] = mapped_column(String(63))
    key_id: Mapped[str] = mapped_column(String(16))  # of the master key that it is encrypted with
    ciphertext: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]


class Usage(Base):
    """For how long one attempt held a device. Rows are added and never changed, so no two workers wait for each other."""

    __tablename__ = "usage"
    __table_args__ = (Index("ix_usage_window", "tenant_id", "ended_at"),)

    job_id: Mapped[str] = mapped_column(String(26), primary_key=True)  # no foreign key: it counts after the job is deleted
    ended_at: Mapped[datetime] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    device_s: Mapped[float]


class AuditEntry(Owned):
    """Who did what and when. The database itself refuses to change or delete a row (migration 0009)."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_page", "tenant_id", "created_at", "id"),)

    key_id: Mapped[str | None] = mapped_column(String(26))  # None: no key was asked for, or it was the operator
    address: Mapped[str | None] = mapped_column(String(64))  # of the request; "operator": `scalpel admin`, on the server
    action: Mapped[str] = mapped_column(String(255))  # `job.submit`, say
    resource: Mapped[str | None] = mapped_column(String(255))  # its id
    outcome: Mapped[str] = mapped_column(String(16))  # `done`, or `forbidden`
    created_at: Mapped[datetime]
