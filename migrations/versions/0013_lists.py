"""Lists that cost the same however many jobs there are: an index by state, and rows to find jobs by model or label.

Revision: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

MODELS = """
    INSERT INTO job_facets (job_id, name, value, tenant_id, created_at)
    SELECT id, ':model', substr(model, 1, 255), tenant_id, created_at FROM jobs
"""
LABELS = """
    INSERT INTO job_facets (job_id, name, value, tenant_id, created_at)
    SELECT jobs.id, label.key, label.value, jobs.tenant_id, jobs.created_at FROM jobs, {each}(jobs.labels) AS label
"""


def upgrade() -> None:
    op.create_table(
        "job_facets",
        sa.Column("job_id", sa.String(26), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("value", sa.String(255), nullable=False),
        sa.Column("tenant_id", sa.String(26), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in (MODELS, LABELS.format(each="json_each" if is_sqlite else "json_each_text")):
        op.get_bind().exec_driver_sql(statement)
    op.create_index("ix_job_facets_page", "job_facets", ["tenant_id", "name", "value", "created_at", "job_id"])
    op.create_index("ix_jobs_state_page", "jobs", ["tenant_id", "state", "created_at", "id"])


def downgrade() -> None:
    op.drop_index("ix_jobs_state_page", "jobs")
    op.drop_table("job_facets")
