"""What pages show of crons, workers and queues: schedules and requests, versions and lag, who paused.

Workers of the previous release write none of it: their crons have no schedule, and a request waits for a newer worker.

Revision ID: 8e5d3a91c7f4
Revises: 8f3a61c0be57
Create Date: 2026-11-29 23:10:00+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "8e5d3a91c7f4"
down_revision: str | None = "8f3a61c0be57"
branch_labels: None = None
depends_on: None = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the columns; nothing is rewritten."""
    for name in ("expression", "timezone", "queue", "kind"):
        op.add_column("job_crons", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("job_crons", sa.Column("next_ticks", postgresql.ARRAY(MOMENT), nullable=True))
    op.add_column("job_crons", sa.Column("last_job_id", sa.Uuid(), nullable=True))
    op.add_column("job_crons", sa.Column("run_requested_at", MOMENT, nullable=True))
    op.add_column("job_crons", sa.Column("seen_at", MOMENT, nullable=True))
    op.add_column("job_workers", sa.Column("version", sa.Text(), nullable=True))
    op.add_column("job_workers", sa.Column("loop_lag", sa.Float(), nullable=True))
    op.add_column("job_queues", sa.Column("paused_by", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("job_queues", "paused_by")
    op.drop_column("job_workers", "loop_lag")
    op.drop_column("job_workers", "version")
    for name in ("seen_at", "run_requested_at", "last_job_id", "next_ticks", "kind", "queue", "timezone", "expression"):
        op.drop_column("job_crons", name)
