"""The index of the jobs of a batch, made without blocking writes.

Revision ID: 6c1f8a4d2e73
Revises: 4b7e2d9c1f50
Create Date: 2026-12-01 00:02:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "6c1f8a4d2e73"
down_revision: str | None = "4b7e2d9c1f50"
branch_labels: None = None
depends_on: None = None

NAME = "ix_jobs_batch_id_state_id"


def upgrade() -> None:
    """Add it."""
    with op.get_context().autocommit_block():
        op.create_index(
            NAME,
            "jobs",
            ["batch_id", "state", "id"],
            postgresql_where=sa.text("batch_id IS NOT NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    """Drop it."""
    with op.get_context().autocommit_block():
        op.drop_index(NAME, "jobs", postgresql_concurrently=True, if_exists=True)
