"""Sign-in with others: accounts at providers that open accounts here, which need no password then.

The previous release refuses every password of an account without one, as it does a wrong one.

Revision ID: 7c1e9b4d2a60
Revises: c5a8f1d2e603
Create Date: 2026-11-30 03:50:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "7c1e9b4d2a60"
down_revision: str | None = "c5a8f1d2e603"
branch_labels: None = None
depends_on: None = None

MOMENT = sa.DateTime(timezone=True)
KEY_TEXT = sa.Text(collation="C")


def upgrade() -> None:
    """Add the tables, and let accounts have no password."""
    op.execute("-- squawk-ignore ban-drop-not-null\nALTER TABLE users ALTER COLUMN password_hash DROP NOT NULL")
    op.create_table(
        "provider_links",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("issuer", KEY_TEXT, nullable=False),
        sa.Column("subject", KEY_TEXT, nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_provider_links_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_links")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_provider_links_issuer_subject")),
        sa.UniqueConstraint("user_id", "issuer", name=op.f("uq_provider_links_user_id_issuer")),
    )
    op.create_table(
        "provider_answers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_answers")),
    )
    op.create_index(op.f("ix_provider_answers_expires_at"), "provider_answers", ["expires_at"])


def downgrade() -> None:
    """Drop the tables; accounts without a password get a hash that no password has, so that a reset sets one."""
    op.drop_table("provider_answers")
    op.drop_table("provider_links")
    op.execute("UPDATE users SET password_hash = '-' WHERE password_hash IS NULL")
    op.alter_column("users", "password_hash", existing_type=sa.Text(), nullable=False)
