"""Indexes for lists and counts of jobs.

`ix_jobs_ended` replaces the index by state, kind and end: it has the queue too, so that lists and counts find what a
filter may match without reading the table. The previous release prunes by it too, only more slowly. A job that is
enqueued, runs and completes is never in `ix_jobs_set_apart`.

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
    """Build both while jobs run, then drop the index that the first replaces."""
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
    """Bring the old index back."""
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
