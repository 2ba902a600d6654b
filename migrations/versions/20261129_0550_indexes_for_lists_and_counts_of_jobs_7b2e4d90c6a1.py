"""Indexes that lists and counts of jobs are answered from.

`ix_jobs_ended` replaces the one by state, kind and end: with the queue in it, what a filter may match is known without
reading the table. The release before this one prunes by it too, only more slowly. `ix_jobs_set_apart` holds what left
the usual way: no job that is enqueued, runs and completes is ever in it.

Revision ID: 7b2e4d90c6a1
Revises: 8d10b6f2e7c5
Create Date: 2026-11-29 05:50:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "7b2e4d90c6a1"
down_revision: str | None = "8d10b6f2e7c5"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Build both while jobs go on, then drop what the first replaces."""
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_jobs_ended",
            "jobs",
            ["state", "queue", "kind", "finished_at"],
            unique=False,
            postgresql_where=sa.text("finished_at IS NOT NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "ix_jobs_set_apart",
            "jobs",
            ["state", "queue", "kind", "id"],
            unique=False,
            postgresql_where=sa.text("state IN ('scheduled', 'retryable', 'discarded', 'cancelled')"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.drop_index("ix_jobs_state_kind_finished_at", table_name="jobs", postgresql_concurrently=True, if_exists=True)


def downgrade() -> None:
    """Bring the old one back."""
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_jobs_state_kind_finished_at",
            "jobs",
            ["state", "kind", "finished_at"],
            unique=False,
            postgresql_where=sa.text("finished_at IS NOT NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.drop_index("ix_jobs_set_apart", table_name="jobs", postgresql_concurrently=True, if_exists=True)
        op.drop_index("ix_jobs_ended", table_name="jobs", postgresql_concurrently=True, if_exists=True)
