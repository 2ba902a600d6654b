"""Indexes of the jobs that wait for a limit, and of those that count towards one.

Revision ID: e4b7209c6d15
Revises: d81c5f3a7e20
Create Date: 2026-12-01 00:11:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "e4b7209c6d15"
down_revision: str | None = "d81c5f3a7e20"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Build both while jobs run; they are empty until jobs have limits."""
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_jobs_held",
            "jobs",
            ["limit_key", "queue", "priority", "due_at"],
            unique=False,
            postgresql_where=sa.text("due_at IS NOT NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "ix_jobs_admitted",
            "jobs",
            ["limit_key"],
            unique=False,
            postgresql_where=sa.text("limit_key IS NOT NULL AND due_at IS NULL AND finished_at IS NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    """Drop both."""
    with op.get_context().autocommit_block():
        op.drop_index("ix_jobs_admitted", table_name="jobs", postgresql_concurrently=True, if_exists=True)
        op.drop_index("ix_jobs_held", table_name="jobs", postgresql_concurrently=True, if_exists=True)
