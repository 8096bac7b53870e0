"""What users bring: data sets, and models that come file by file; and which jobs read them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from jobs.access.tables import Owned
from jobs.base import Base


class Dataset(Owned):
    """A text to calibrate or to evaluate on. Its bytes lie in the artifact store under their SHA-256."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("tenant_id", "sha256", "kind", name="uq_datasets_content"),)

    name: Mapped[str] = mapped_column(String(255))
    kind: Mapped[str] = mapped_column(String(16))  # a `Kind` of jobs/uploads/dataset_check.py
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    documents: Mapped[int] = mapped_column(BigInteger)
    characters: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]  # when a job that reads it was last submitted; writing it locks the row


class UploadedModel(Owned):
    """A model that a user brings, from its manifest to the day when jobs may name it."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("tenant_id", "digest", name="uq_models_digest"),)

    name: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16), index=True)  # an `UploadState` of jobs/uploads/model_uploads.py
    digest: Mapped[str] = mapped_column(String(64))  # of the manifest's files; what jobs call the model's revision
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    config: Mapped[dict[str, Any] | None]  # config.json, once it is ready
    tensors: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)  # name -> [file, dtype, shape]; long
    problem: Mapped[str | None] = mapped_column(Text)  # why it was refused
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]  # when something last came; writing it locks the row
    used_at: Mapped[datetime | None]


class ModelFile(Base):
    """A file of a manifest. Its bytes are its parts, one after the other; they are never put together in the store."""

    __tablename__ = "model_files"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(String(255), primary_key=True)
    promised_sha256: Mapped[str] = mapped_column(String(64), index=True)  # by the user; no name of a stored object
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    is_verified: Mapped[bool] = mapped_column(default=False, server_default=false())  # its bytes have the promised hash


class ModelPart(Base):
    """What one request brought of a file. The parts of a file are consecutive."""

    __tablename__ = "model_parts"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(String(255), primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)


class JobInput(Base):
    """A data set or an uploaded model that a job reads: it cannot be deleted before the job has ended."""

    __tablename__ = "job_inputs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    resource_id: Mapped[str] = mapped_column(String(26), primary_key=True, index=True)
