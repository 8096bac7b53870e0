"""Quotas as columns, what tenants have used, their secrets, and the audit, whose rows nobody changes.

Revision: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

QUOTAS = ("max_running", "max_queued", "max_stored_bytes", "max_device_s")


def upgrade() -> None:
    with op.batch_alter_table("tenants") as tenants:
        tenants.drop_column("quotas")
        for name in QUOTAS:
            tenants.add_column(sa.Column(name, sa.BigInteger()))
    op.create_table(
        "usage",
        sa.Column("job_id", sa.String(26), primary_key=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("tenant_id", sa.String(26), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("device_s", sa.Double(), nullable=False),
    )
    op.create_index("ix_usage_window", "usage", ["tenant_id", "ended_at"])
    op.create_table(
        "secrets",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("tenant_id", sa.String(26), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("tenant_id", "name", name="uq_secrets_name"),
    )
    op.create_index("ix_secrets_tenant_id", "secrets", ["tenant_id"])
    op.create_table(
        "audit",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("tenant_id", sa.String(26), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("key_id", sa.String(26)),
        sa.Column("address", sa.String(64)),
        sa.Column("action", sa.String(255), nullable=False),
        sa.Column("resource", sa.String(255)),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_audit_tenant_id", "audit", ["tenant_id"])
    op.create_index("ix_audit_page", "audit", ["tenant_id", "created_at", "id"])
    _make_append_only()


def _make_append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{change.lower()} BEFORE {change} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
    )


def downgrade() -> None:
    op.drop_table("audit")  # and its triggers
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION audit_is_append_only()")
    op.drop_table("secrets")
    op.drop_table("usage")
    with op.batch_alter_table("tenants") as tenants:
        tenants.add_column(sa.Column("quotas", sa.JSON(), nullable=False, server_default="{}"))
        for name in QUOTAS:
            tenants.drop_column(name)
