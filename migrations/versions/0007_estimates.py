"""What a job is expected to need, and the rates of earlier jobs that its time is foretold from.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("estimate", sa.JSON(none_as_null=True)))
    op.create_table(
        "measured_rates",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("device", sa.String(255), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("activity", sa.String(16), nullable=False),
        sa.Column("work", sa.Double, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_measured_rates_kind", "measured_rates", ["activity", "method", "device", "id"])


def downgrade() -> None:
    op.drop_table("measured_rates")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("estimate")
