"""Data sets, models that are uploaded file by file, and which jobs read them.

Revision: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def _time(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _owned() -> "tuple[sa.Column[object], ...]":
    return (
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("tenant_id", sa.String(26), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    )


def _of_model() -> "tuple[sa.Column[object], ...]":
    return (
        sa.Column("model_id", sa.String(26), sa.ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("path", sa.String(255), primary_key=True),
    )


def upgrade() -> None:
    op.create_table(
        "datasets",
        *_owned(),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("documents", sa.BigInteger(), nullable=False),
        sa.Column("characters", sa.BigInteger(), nullable=False),
        _time("created_at"),
        _time("used_at", nullable=True),
        sa.UniqueConstraint("tenant_id", "sha256", "kind", name="uq_datasets_content"),
    )
    op.create_table(
        "models",
        *_owned(),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("config", sa.JSON()),
        sa.Column("tensors", sa.JSON()),
        sa.Column("problem", sa.Text()),
        _time("created_at"),
        _time("updated_at"),
        _time("used_at", nullable=True),
        sa.UniqueConstraint("tenant_id", "digest", name="uq_models_digest"),
    )
    op.create_table(
        "model_files",
        *_of_model(),
        sa.Column("promised_sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("is_verified", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "model_parts",
        *_of_model(),
        sa.Column("offset", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "job_inputs",
        sa.Column("job_id", sa.String(26), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("resource_id", sa.String(26), primary_key=True),
    )
    for table, column in INDEXED:
        op.create_index(f"ix_{table}_{column}", table, [column])


def downgrade() -> None:
    for table in ("job_inputs", "model_parts", "model_files", "models", "datasets"):
        op.drop_table(table)


INDEXED = (
    ("datasets", "tenant_id"),
    ("datasets", "sha256"),
    ("models", "tenant_id"),
    ("models", "state"),
    ("model_files", "promised_sha256"),
    ("model_parts", "sha256"),
    ("job_inputs", "resource_id"),
)
