"""Exports of accounts, in pieces, because they are too large for the result of a job.

Revision ID: 2f6d1c8e5b93
Revises: 7b2e4d90c6a1
Create Date: 2026-11-29 06:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "2f6d1c8e5b93"
down_revision: str | None = "7b2e4d90c6a1"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Create the table and its indexes."""
    op.create_table(
        "export_parts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_export_parts_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export_parts")),
        sa.UniqueConstraint("job_id", "number", name=op.f("uq_export_parts_job_id_number")),
    )
    op.create_index(op.f("ix_export_parts_user_id"), "export_parts", ["user_id"])
    op.create_index(op.f("ix_export_parts_expires_at"), "export_parts", ["expires_at"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("export_parts")
