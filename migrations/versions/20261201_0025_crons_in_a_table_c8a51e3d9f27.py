"""Crons that operators add are rows.

The table is new, and the previous release does not call it: it goes on.

Revision ID: c8a51e3d9f27
Revises: e7c40b2d91a5
Create Date: 2026-12-01 00:25:00+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "c8a51e3d9f27"
down_revision: str | None = "e7c40b2d91a5"
branch_labels: None = None
depends_on: None = None

TIME = sa.DateTime(timezone=True)
KEY = sa.Text(collation="C")
NOW = sa.text("now()")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "job_schedules",
        sa.Column("name", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("payload_version", sa.SmallInteger(), nullable=False),
        sa.Column("expression", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("queue", KEY, server_default="default", nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="2", nullable=False),
        sa.Column("catch_up", KEY, server_default="one", nullable=False),
        sa.Column("overlap", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("last_tick_at", TIME, server_default=NOW, nullable=False),
        sa.Column("next_tick_at", TIME, nullable=True),
        sa.Column("next_ticks", postgresql.ARRAY(TIME), server_default="{}", nullable=False),
        sa.Column("last_job_id", sa.Uuid(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("paused_at", TIME, nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("changed_at", TIME, server_default=NOW, nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.CheckConstraint("catch_up IN ('skip', 'one', 'all')", name=op.f("ck_job_schedules_catch_up")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_schedules")),
    )
    op.create_index(
        op.f("ix_job_schedules_next_tick_at"),
        "job_schedules",
        ["next_tick_at"],
        postgresql_where=sa.text("next_tick_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("job_schedules")
