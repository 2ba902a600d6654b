"""The job that a job was made from, by hand.

All is new beside what the previous release reads and writes, so it goes on.

Revision ID: 4d7a91c0e5b2
Revises: 9c4d2f7ab186
Create Date: 2026-11-30 23:50:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "4d7a91c0e5b2"
down_revision: str | None = "9c4d2f7ab186"
branch_labels: None = None
depends_on: None = None

INDEX = "ix_jobs_origin_id_id"


def upgrade() -> None:
    """Add the column, and the index of the few jobs that have it; no row is written."""
    op.add_column("jobs", sa.Column("origin_id", sa.Uuid(), nullable=True), if_not_exists=True)
    with op.get_context().autocommit_block():
        op.create_index(
            INDEX,
            "jobs",
            ["origin_id", "id"],
            postgresql_where=sa.text("origin_id IS NOT NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    """Drop both: nobody knows any more which job was made from which."""
    with op.get_context().autocommit_block():
        op.drop_index(INDEX, "jobs", postgresql_concurrently=True, if_exists=True)
    op.drop_column("jobs", "origin_id", if_exists=True)
