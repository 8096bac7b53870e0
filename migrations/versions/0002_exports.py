"""What a job does and which one it came from, the solutions that it keeps, and the size that was foretold.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("task", sa.String(16), nullable=False, server_default="compress"))
        jobs.add_column(sa.Column("parent_id", sa.String(26)))
        jobs.add_column(sa.Column("forecast", sa.JSON()))
        jobs.add_column(sa.Column("solution_bytes", sa.BigInteger()))
        jobs.create_foreign_key("fk_jobs_parent_id", "jobs", ["parent_id"], ["id"], ondelete="SET NULL")
        jobs.create_index("ix_jobs_parent_id", ["parent_id"])
    op.create_table(
        "solutions",
        sa.Column("job_id", sa.String(26), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("solutions")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_index("ix_jobs_parent_id")
        jobs.drop_constraint("fk_jobs_parent_id", type_="foreignkey")
        for column in ("solution_bytes", "forecast", "parent_id", "task"):
            jobs.drop_column(column)
