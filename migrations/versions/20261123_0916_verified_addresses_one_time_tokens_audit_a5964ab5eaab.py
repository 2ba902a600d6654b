"""Verified addresses, disabled accounts, one-time tokens and the audit.

Revision ID: a5964ab5eaab
Revises: 6b1f0a9c2d47
Create Date: 2026-11-23 09:16:16.817466+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "a5964ab5eaab"
down_revision: str | None = "6b1f0a9c2d47"
branch_labels: None = None
depends_on: None = None

# By default the application may write new tables (app_db.roles). Not these: events of the audit are only inserted, and
# only migrations write their own tables. Without such roles there is no grant, and nothing is revoked.
RESTRICT = """
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT DISTINCT oid::regclass AS relation, grantee::regrole AS role,
            CASE relname WHEN 'audit_events' THEN '' ELSE 'INSERT, ' END || 'UPDATE, DELETE, TRUNCATE' AS privileges
        FROM pg_class, aclexplode(relacl)
        WHERE oid IN ('audit_events'::regclass, 'schema_history'::regclass, 'alembic_version'::regclass)
            AND grantee NOT IN (relowner, 0)
    LOOP
        EXECUTE 'REVOKE ' || item.privileges || ' ON ' || item.relation || ' FROM ' || item.role;
    END LOOP;
END
$$
"""


def upgrade() -> None:
    """Add the tables and columns, and restrict the application's rights."""
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("happened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("client_address", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_index(op.f("ix_audit_events_user_id_id"), "audit_events", ["user_id", "id"], unique=False)
    op.create_table(
        "one_time_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("email_canonical", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("purpose IN ('verify_email', 'reset_password')", name=op.f("ck_one_time_tokens_purpose")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_one_time_tokens_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_one_time_tokens")),
    )
    op.create_index(op.f("ix_one_time_tokens_expires_at"), "one_time_tokens", ["expires_at"], unique=False)
    op.create_index(op.f("ix_one_time_tokens_user_id_purpose"), "one_time_tokens", ["user_id", "purpose"], unique=False)
    op.add_column("user_sessions", sa.Column("client_address", sa.Text(), nullable=True))
    op.add_column("user_sessions", sa.Column("user_agent", sa.Text(), nullable=True))
    op.add_column("users", sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("users", sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(RESTRICT)


def downgrade() -> None:
    """Drop the tables and columns."""
    op.drop_column("users", "disabled_at")
    op.drop_column("users", "email_verified_at")
    op.drop_column("user_sessions", "user_agent")
    op.drop_column("user_sessions", "client_address")
    op.drop_index(op.f("ix_one_time_tokens_user_id_purpose"), table_name="one_time_tokens")
    op.drop_index(op.f("ix_one_time_tokens_expires_at"), table_name="one_time_tokens")
    op.drop_table("one_time_tokens")
    op.drop_index(op.f("ix_audit_events_user_id_id"), table_name="audit_events")
    op.drop_table("audit_events")
