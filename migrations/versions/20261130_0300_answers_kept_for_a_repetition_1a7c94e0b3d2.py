"""Answers that are kept for requests that a client repeats with their Idempotency-Key.

Revision ID: 1a7c94e0b3d2
Revises: f2a7c61d9b03
Create Date: 2026-11-30 03:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "1a7c94e0b3d2"
down_revision: str | None = "f2a7c61d9b03"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Create the table and its indexes."""
    op.create_table(
        "idempotent_requests",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_idempotent_requests_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotent_requests")),
    )
    op.create_index(op.f("ix_idempotent_requests_user_id"), "idempotent_requests", ["user_id"])
    op.create_index(op.f("ix_idempotent_requests_expires_at"), "idempotent_requests", ["expires_at"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("idempotent_requests")
