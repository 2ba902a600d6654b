"""Addresses are compared by code points.

An index of text in the order of the host's C library becomes wrong when that library changes its order: an address that
has an account is not found in it, and can be registered again. The new index is made before the column changes, so that
the column takes it over: nothing is rewritten, and the lock is held for a moment. If the index cannot be made because
an address is there twice, it was registered again: delete one of the two accounts, and migrate again.

A column's collation is a part of the type of a result, so open connections prepare their statements anew.

Revision ID: 3c7e51d8a904
Revises: 4c0d9e7f1a52
Create Date: 2026-11-29 05:40:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "3c7e51d8a904"
down_revision: str | None = "4c0d9e7f1a52"
branch_labels: None = None
depends_on: None = None


# Nothing is rewritten, and open connections prepare their statements anew.
COLUMN = """-- squawk-ignore changing-column-type
ALTER TABLE {table} ALTER COLUMN email_canonical TYPE text COLLATE "{collation}"
"""
WITHOUT = """-- squawk-ignore ban-drop-constraint
ALTER TABLE users DROP CONSTRAINT uq_users_email_canonical
"""
WITH = "ALTER TABLE users ADD CONSTRAINT uq_users_email_canonical UNIQUE USING INDEX uq_users_email_canonical_new"


def upgrade() -> None:
    """Make the index, then let the column take it over."""
    collate("C")


def downgrade() -> None:
    """Go back to the order of the host."""
    collate("default")


def collate(collation: str) -> None:
    """Change the collation of the canonical addresses."""
    with op.get_context().autocommit_block():
        op.create_index(
            "uq_users_email_canonical_new",
            "users",
            [sa.text(f'email_canonical COLLATE "{collation}"')],
            unique=True,
            postgresql_concurrently=True,
            if_not_exists=True,
        )
    op.execute(WITHOUT)
    op.execute(COLUMN.format(table="users", collation=collation))
    op.execute(WITH)
    op.execute(COLUMN.format(table="one_time_tokens", collation=collation))
