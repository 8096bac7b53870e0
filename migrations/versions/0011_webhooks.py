"""Webhooks, their deliveries, and where a job has published to.

Revision: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _owned() -> tuple[sa.Column[object], sa.Column[object]]:
    tenant = sa.ForeignKey("tenants.id", ondelete="CASCADE")
    return sa.Column("id", sa.String(26), primary_key=True), sa.Column("tenant_id", sa.String(26), tenant, nullable=False)


def upgrade() -> None:
    op.create_table(
        "webhooks",
        *_owned(),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.String(255), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("disabled_reason", sa.Text()),
        _moment("failing_since", nullable=True),
        _moment("old_secret_until", nullable=True),
        _moment("created_at"),
        _moment("updated_at"),
    )
    op.create_index("ix_webhooks_tenant_id", "webhooks", ["tenant_id"])
    op.create_table(
        "webhook_deliveries",
        *_owned(),
        sa.Column("webhook_id", sa.String(26), sa.ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("job_id", sa.String(26)),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        _moment("due_at"),
        _moment("leased_until", nullable=True),
        _moment("attempted_at", nullable=True),
        sa.Column("status_code", sa.Integer()),
        sa.Column("latency_s", sa.Double()),
        sa.Column("error", sa.Text()),
        sa.Column("excerpt", sa.Text()),
        _moment("created_at"),
        _moment("finished_at", nullable=True),
    )
    op.create_index("ix_webhook_deliveries_tenant_id", "webhook_deliveries", ["tenant_id"])
    op.create_index("ix_webhook_deliveries_due", "webhook_deliveries", ["state", "due_at"])
    op.create_index("ix_webhook_deliveries_page", "webhook_deliveries", ["webhook_id", "created_at", "id"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("publication", sa.JSON()))


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("publication")
    op.drop_table("webhook_deliveries")
    op.drop_table("webhooks")
