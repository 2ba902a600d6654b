"""Which second factors an account has, and sign-ins that wait for one.

The previous release knows neither: to it such an account is like any other, and it finds no such token.

Revision ID: f2a7c61d9b03
Revises: 8e5d3a91c7f4
Create Date: 2026-11-30 02:40:00+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "f2a7c61d9b03"
down_revision: str | None = "8e5d3a91c7f4"
branch_labels: None = None
depends_on: None = None

BEFORE = ("verify_email", "reset_password")
PURPOSES = (*BEFORE, "second_factor")


def upgrade() -> None:
    """Allow the purpose and add the column; no row is rewritten."""
    allow(*PURPOSES)
    empty = sa.text("'{}'")
    op.add_column(
        "users", sa.Column("second_factors", postgresql.ARRAY(sa.Text()), server_default=empty, nullable=False)
    )


def downgrade() -> None:
    """End the sign-ins that wait, and drop the column."""
    op.execute("DELETE FROM one_time_tokens WHERE purpose = 'second_factor'")
    allow(*BEFORE)
    op.drop_column("users", "second_factors")


def allow(*purposes: str) -> None:
    """Replace the CHECK; rows that are there are read after the lock on the table has gone."""
    members = ", ".join(f"'{purpose}'" for purpose in purposes)
    with op.get_context().autocommit_block():
        op.execute(
            "-- squawk-ignore ban-drop-constraint\n"
            "ALTER TABLE one_time_tokens DROP CONSTRAINT ck_one_time_tokens_purpose, "
            f"ADD CONSTRAINT ck_one_time_tokens_purpose CHECK (purpose IN ({members})) NOT VALID"
        )
    op.execute("ALTER TABLE one_time_tokens VALIDATE CONSTRAINT ck_one_time_tokens_purpose")
