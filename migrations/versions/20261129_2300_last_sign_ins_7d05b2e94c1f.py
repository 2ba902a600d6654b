"""The last sign-in of each account, and the audit's events and client addresses by code points.

The collation is changed before there is an index of these columns, so nothing is made anew. The previous release does
not write `signed_in_at`.

Revision ID: 7d05b2e94c1f
Revises: c4e19b70d5a2
Create Date: 2026-11-29 23:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "7d05b2e94c1f"
down_revision: str | None = "c4e19b70d5a2"
branch_labels: None = None
depends_on: None = None

IGNORE = "-- squawk-ignore changing-column-type\n"


def upgrade() -> None:
    """Add the column, and change both collations."""
    op.add_column("users", sa.Column("signed_in_at", sa.DateTime(timezone=True), nullable=True))
    collate("C")


def downgrade() -> None:
    """Take it away, and go back to the order of the host."""
    collate("default")
    op.drop_column("users", "signed_in_at")


def collate(collation: str) -> None:
    """Change the collation of the columns."""
    types = (f'ALTER COLUMN {column} TYPE text COLLATE "{collation}"' for column in ("event", "client_address"))
    op.execute(f"{IGNORE}ALTER TABLE audit_events {', '.join(types)}")
