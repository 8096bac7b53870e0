"""Tenants and their API keys; every job has an owner. Jobs from before belong to the tenant `local`.

Revision: 0004
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LOCAL_TENANT_ID = "0" * 26


def upgrade() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("name", sa.String(63), nullable=False, unique=True),
        sa.Column("quotas", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
    )
    now = datetime.now(UTC)
    op.bulk_insert(tenants, [{"id": LOCAL_TENANT_ID, "name": "local", "quotas": {}, "created_at": now}])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("tenant_id", sa.String(26), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("prefix", sa.String(24), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_api_keys_tenant_id", "api_keys", ["tenant_id"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("tenant_id", sa.String(26), nullable=False, server_default=LOCAL_TENANT_ID))
        jobs.create_foreign_key("fk_jobs_tenant_id", "tenants", ["tenant_id"], ["id"])
        jobs.drop_index("ix_jobs_page")
        jobs.create_index("ix_jobs_page", ["tenant_id", "created_at", "id"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("tenant_id", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_index("ix_jobs_page")
        jobs.drop_constraint("fk_jobs_tenant_id", type_="foreignkey")
        jobs.drop_column("tenant_id")
        jobs.create_index("ix_jobs_page", ["created_at", "id"])
    op.drop_index("ix_api_keys_tenant_id", "api_keys")
    op.drop_table("api_keys")
    op.drop_table("tenants")
