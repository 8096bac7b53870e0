"""How long a job may run, and how long workers have held it.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("claimed_at", sa.DateTime(timezone=True)))
        jobs.add_column(sa.Column("running_s", sa.Double(), nullable=False, server_default="0"))
        jobs.add_column(sa.Column("run_limit_s", sa.Double()))


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        for column in ("run_limit_s", "running_s", "claimed_at"):
            jobs.drop_column(column)
