"""Whether the mail server of a worker accepts non-ASCII addresses.

Workers of the previous release do not record it, and the API then accepts every address, as it did before.

Revision ID: 9e4a7c2b5d10
Revises: a47f0c3d8e61
Create Date: 2026-11-29 06:15:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "9e4a7c2b5d10"
down_revision: str | None = "a47f0c3d8e61"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    """Add the column; nothing is rewritten."""
    op.add_column("job_workers", sa.Column("smtputf8", sa.Boolean(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("job_workers", "smtputf8")
