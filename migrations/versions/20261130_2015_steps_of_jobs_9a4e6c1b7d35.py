"""What the attempts of a job have committed: its steps, and how far it has come.

Revision ID: 9a4e6c1b7d35
Revises: 5b3e8d1c7f60
Create Date: 2026-11-30 20:15:00+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "9a4e6c1b7d35"
down_revision: str | None = "5b3e8d1c7f60"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the columns; no row is written."""
    op.add_column("jobs", sa.Column("steps", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("jobs", sa.Column("cursor", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    """Drop the columns: jobs that are under way then begin again."""
    op.drop_column("jobs", "cursor")
    op.drop_column("jobs", "steps")
