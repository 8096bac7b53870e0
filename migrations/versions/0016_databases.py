"""Model databases that jobs chose from.

Revision: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "databases",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("tenant_id", sa.String(26), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("levels", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("tenant_id", "key", name="uq_databases_key"),
    )
    op.create_index("ix_databases_tenant_id", "databases", ["tenant_id"])
    op.create_index("ix_databases_page", "databases", ["tenant_id", "created_at", "id"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("database_id", sa.String(26), nullable=True))
        jobs.create_foreign_key("fk_jobs_database_id", "databases", ["database_id"], ["id"], ondelete="SET NULL")
        jobs.create_index("ix_jobs_database_id", ["database_id"])


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_index("ix_jobs_database_id")
        jobs.drop_constraint("fk_jobs_database_id", type_="foreignkey")
        jobs.drop_column("database_id")
    op.drop_table("databases")
