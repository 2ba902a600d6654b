"""Indexes for lists of accounts and of the audit, made without blocking writes.

Revision ID: 8f3a61c0be57
Revises: 7d05b2e94c1f
Create Date: 2026-11-29 23:01:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision: str = "8f3a61c0be57"
down_revision: str | None = "7d05b2e94c1f"
branch_labels: None = None
depends_on: None = None

INDEXES: list[tuple[str, str, list[str], str | None]] = [
    ("ix_users_disabled", "users", ["id"], "disabled_at IS NOT NULL"),
    ("ix_users_operators", "users", ["id"], "role = 'operator'"),
    ("ix_users_unverified", "users", ["id"], "email_verified_at IS NULL"),
    ("ix_users_signed_in_at_id", "users", ["signed_in_at", "id"], None),
    ("ix_audit_events_event_id", "audit_events", ["event", "id"], None),
    ("ix_audit_events_actor_id_id", "audit_events", ["actor_id", "id"], "actor_id IS NOT NULL"),
    ("ix_audit_events_client_address_id", "audit_events", ["client_address", "id"], "client_address IS NOT NULL"),
]


def upgrade() -> None:
    """Add them."""
    with op.get_context().autocommit_block():
        for name, table, columns, predicate in INDEXES:
            op.create_index(
                name,
                table,
                columns,
                postgresql_where=None if predicate is None else sa.text(predicate),
                postgresql_concurrently=True,
                if_not_exists=True,
            )


def downgrade() -> None:
    """Drop them."""
    with op.get_context().autocommit_block():
        for name, table, *_ in INDEXES:
            op.drop_index(name, table, postgresql_concurrently=True, if_exists=True)
