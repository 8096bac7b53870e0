"""Checkpoints in the artifact store, requests to pause, files that expire, and what is needed to find garbage.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("job_id", sa.String(26), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    for table in ("checkpoints", "artifacts", "solutions"):
        op.create_index(f"ix_{table}_sha256", table, ["sha256"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("pause_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
        jobs.add_column(sa.Column("artifacts_expired_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("artifacts_expired_at")
        jobs.drop_column("pause_requested")
    for table in ("solutions", "artifacts"):
        op.drop_index(f"ix_{table}_sha256", table)
    op.drop_table("checkpoints")
