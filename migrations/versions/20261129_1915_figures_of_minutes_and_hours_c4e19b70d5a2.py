"""Figures of minutes and hours, for charts.

Workers of the previous release do not know the kind `figures.count`: they leave its jobs to newer ones.

Revision ID: c4e19b70d5a2
Revises: 9e4a7c2b5d10
Create Date: 2026-11-29 19:15:00+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "c4e19b70d5a2"
down_revision: str | None = "9e4a7c2b5d10"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "job_figures",
        sa.Column("span", sa.Text(collation="C"), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("jobs", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("queues", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("events", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint("span IN ('minute', 'hour')", name=op.f("ck_job_figures_span")),
        sa.PrimaryKeyConstraint("span", "began_at", name=op.f("pk_job_figures")),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("job_figures")
