"""Jobs say what they need of a device; workers, housekeeping and totals have rows.

Revision: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("served_at", sa.DateTime(timezone=True)))
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("need", sa.String(8), nullable=False, server_default="any"))
        jobs.add_column(sa.Column("is_tallied", sa.Boolean(), nullable=False, server_default=sa.false()))
        jobs.add_column(sa.Column("trace", sa.String(64)))
        jobs.drop_index("ix_jobs_claim")
    op.create_index("ix_jobs_claim", "jobs", ["state", "tenant_id", "need", "priority", "created_at", "id"])
    op.create_index("ix_jobs_due", "jobs", ["state", "need", "claimable_at"])
    op.create_index("ix_jobs_tally", "jobs", ["is_tallied", "state"])
    op.create_table(
        "workers",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("slots", sa.JSON(), nullable=False),
        sa.Column("queues", sa.JSON(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("memory_free_bytes", sa.BigInteger(), nullable=False),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=False),
        sa.Column("disk_free_bytes", sa.BigInteger(), nullable=False),
        sa.Column("is_draining", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_workers_heartbeat_at", "workers", ["heartbeat_at"])
    op.create_table(
        "beats",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "tallies",
        sa.Column("metric", sa.String(32), primary_key=True),
        sa.Column("label", sa.String(32), primary_key=True),
        sa.Column("bucket", sa.String(16), primary_key=True),
        sa.Column("value", sa.Double(), nullable=False),
    )


def downgrade() -> None:
    for table in ("tallies", "beats", "workers"):
        op.drop_table(table)
    for index in ("ix_jobs_tally", "ix_jobs_due", "ix_jobs_claim"):
        op.drop_index(index, "jobs")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("trace")
        jobs.drop_column("is_tallied")
        jobs.drop_column("need")
    op.create_index("ix_jobs_claim", "jobs", ["state", "priority", "created_at", "id"])
    op.drop_column("tenants", "served_at")
