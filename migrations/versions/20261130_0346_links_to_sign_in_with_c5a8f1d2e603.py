"""Links to sign in with.

Revision ID: c5a8f1d2e603
Revises: 0d4b8e27fa16
Create Date: 2026-11-30 03:45:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "c5a8f1d2e603"
down_revision: str | None = "0d4b8e27fa16"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "sign_in_links",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("email_canonical", sa.Text(collation="C"), nullable=False),
        sa.Column("binding_digest", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_sign_in_links_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_links")),
    )
    op.create_index(op.f("ix_sign_in_links_expires_at"), "sign_in_links", ["expires_at"], unique=False)
    op.create_index(op.f("ix_sign_in_links_user_id"), "sign_in_links", ["user_id"], unique=False)


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("sign_in_links")
