"""The time when a job of a cron last did its work, for the alert on retention that stands still.

Workers of the previous release do not record it: the age grows until a worker of this release has pruned.

Revision ID: 4c0d9e7f1a52
Revises: 3c9a5e7d1f42
Create Date: 2026-11-29 05:30:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "4c0d9e7f1a52"
down_revision: str | None = "3c9a5e7d1f42"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the column; existing rows get the current time without a rewrite."""
    op.add_column(
        "job_crons",
        sa.Column("done_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("job_crons", "done_at")
