"""The jobs that each worker holds.

No relay claims these jobs while the worker is alive. Workers of the previous release do not report theirs: relays
treat them as before.

Revision ID: d2f84a6c1b07
Revises: b81f6d2c9e40
Create Date: 2026-11-23 15:40:00+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "d2f84a6c1b07"
down_revision: str | None = "b81f6d2c9e40"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the columns; existing rows get the defaults without a rewrite."""
    op.add_column("job_workers", sa.Column("holding", postgresql.ARRAY(sa.Uuid()), server_default="{}", nullable=False))
    op.add_column(
        "job_workers",
        sa.Column("holds_until", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("job_workers", "holds_until")
    op.drop_column("job_workers", "holding")
