"""Accounts whose mail was refused for good, and the reply of the mail server.

The columns are empty, and nothing is rewritten.

Revision ID: 5e2b9c7d4f18
Revises: 2f6d1c8e5b93
Create Date: 2026-11-29 06:10:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "5e2b9c7d4f18"
down_revision: str | None = "2f6d1c8e5b93"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("users", sa.Column("undeliverable_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("users", sa.Column("undeliverable_because", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("users", "undeliverable_because")
    op.drop_column("users", "undeliverable_at")
