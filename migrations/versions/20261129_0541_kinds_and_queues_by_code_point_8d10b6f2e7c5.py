"""Kinds, queues, states and keys of jobs, and all names that are keys, are compared by code points.

Two indexes are dropped first and made again at the end, without blocking other transactions; until then retention and
the counting of queues with a limit read the table. Postgres makes the other two anew under the lock, in a transaction
each: some 0.3 s for each million of jobs.

Revision ID: 8d10b6f2e7c5
Revises: 3c7e51d8a904
Create Date: 2026-11-29 05:41:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "8d10b6f2e7c5"
down_revision: str | None = "3c7e51d8a904"
branch_labels: None = None
depends_on: None = None

IGNORE = "-- squawk-ignore changing-column-type\n"
# Grouped by the index that Postgres makes anew for them.
JOBS = (("unique_key", "state"), ("kind", "queue"))
OTHERS = {
    "users": "role",
    "one_time_tokens": "purpose",
    "job_queues": "name",
    "job_crons": "name",
    "schema_history": "revision",
}


def upgrade() -> None:
    """Compare the columns by code points."""
    collate("C")


def downgrade() -> None:
    """Go back to the order of the host."""
    collate("default")


def collate(collation: str) -> None:
    """Change the collation of the columns."""
    with op.get_context().autocommit_block():
        op.drop_index("ix_jobs_state_kind_finished_at", "jobs", postgresql_concurrently=True, if_exists=True)
        op.drop_index("ix_jobs_on_their_way", "jobs", postgresql_concurrently=True, if_exists=True)
        # Each in a transaction of its own, so that none waits for its lock while it holds another.
        for columns in JOBS:
            op.execute(change("jobs", *columns, collation=collation))
        op.create_index(
            "ix_jobs_state_kind_finished_at",
            "jobs",
            ["state", "kind", "finished_at"],
            postgresql_where=sa.text("finished_at IS NOT NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.create_index(
            "ix_jobs_on_their_way",
            "jobs",
            ["queue"],
            postgresql_where=sa.text("claim_at IS NOT NULL AND state IN ('dispatched', 'executing')"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
    for table, column in OTHERS.items():
        op.execute(change(table, column, collation=collation))


def change(table: str, *columns: str, collation: str) -> str:
    """Return the statement that changes the collation of columns."""
    types = (f'ALTER COLUMN {column} TYPE text COLLATE "{collation}"' for column in columns)
    return f"{IGNORE}ALTER TABLE {table} {', '.join(types)}"
