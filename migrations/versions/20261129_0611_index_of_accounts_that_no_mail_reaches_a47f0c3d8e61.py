"""An index of the accounts that no mail reaches, for operators; it holds few rows and is made without blocking writes.

Revision ID: a47f0c3d8e61
Revises: 5e2b9c7d4f18
Create Date: 2026-11-29 06:11:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "a47f0c3d8e61"
down_revision: str | None = "5e2b9c7d4f18"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add it."""
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_users_undeliverable",
            "users",
            ["id"],
            postgresql_where=sa.text("undeliverable_at IS NOT NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    """Drop it."""
    with op.get_context().autocommit_block():
        op.drop_index("ix_users_undeliverable", "users", postgresql_concurrently=True, if_exists=True)
