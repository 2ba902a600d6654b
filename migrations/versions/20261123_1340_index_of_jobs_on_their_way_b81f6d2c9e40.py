"""An index of jobs on their way that the planner can use only for counts.

The planner also chose the old index for statements about one job by its id, and beside an open snapshot it was full of
dead entries: each start of a job read them all. The previous release counts without the new index, more slowly, and
only in queues with a limit.

Revision ID: b81f6d2c9e40
Revises: a5964ab5eaab
Create Date: 2026-11-23 13:40:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "b81f6d2c9e40"
down_revision: str | None = "a5964ab5eaab"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Replace the old index."""
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_jobs_on_their_way",
            "jobs",
            ["queue"],
            unique=False,
            postgresql_where=sa.text("claim_at IS NOT NULL AND state IN ('dispatched', 'executing')"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.drop_index("ix_jobs_running", table_name="jobs", postgresql_concurrently=True, if_exists=True)


def downgrade() -> None:
    """Bring the old index back."""
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_jobs_running",
            "jobs",
            ["queue"],
            unique=False,
            postgresql_where=sa.text("state IN ('dispatched', 'executing')"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.drop_index("ix_jobs_on_their_way", table_name="jobs", postgresql_concurrently=True, if_exists=True)
