"""Webhooks: endpoints of accounts, deliveries, and the triggers that record events.

Processes of the previous release end jobs and write the audit as before: the triggers find no endpoint.

Revision ID: e7c40b2d91a5
Revises: e4b7209c6d15
Create Date: 2026-12-01 00:20:00+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "e7c40b2d91a5"
down_revision: str | None = "e4b7209c6d15"
branch_labels: None = None
depends_on: None = None

ADD = """
CREATE OR REPLACE FUNCTION public.add_webhook_event(owner uuid, name text, content jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH happened AS (
        SELECT uuidv7() AS id
    ), wanted AS (
        SELECT id FROM public.webhook_endpoints
        WHERE user_id = owner AND disabled_at IS NULL AND name = ANY (events)
        FOR KEY SHARE SKIP LOCKED
    ), added AS (
        INSERT INTO public.webhook_deliveries (id, endpoint_id, event_id, event, data, job_id)
        SELECT uuidv7(), wanted.id, happened.id, name, content, uuidv7() FROM wanted, happened
        RETURNING id, job_id
    )
    INSERT INTO public.jobs (id, kind, payload, payload_version, state, claim_at)
    SELECT job_id, 'webhooks.deliver', jsonb_build_object('delivery_id', id), 1, 'available', now() FROM added;
END
$$
"""

OF_JOBS = """
CREATE OR REPLACE FUNCTION public.add_webhook_event_of_job() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.webhook_endpoints WHERE user_id = NEW.owner_id) THEN
        PERFORM public.add_webhook_event(
            NEW.owner_id, 'job.' || NEW.state,
            jsonb_build_object('job_id', NEW.id, 'kind', NEW.kind, 'state', NEW.state)
        );
    END IF;
    RETURN NULL;
END
$$
"""

OF_AUDIT = """
CREATE OR REPLACE FUNCTION public.add_webhook_event_of_audit() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.add_webhook_event(
        NEW.user_id, 'account.' || NEW.event, jsonb_build_object('user_id', NEW.user_id)
    );
    RETURN NULL;
END
$$
"""

ON_JOBS = """
CREATE OR REPLACE TRIGGER add_webhook_event AFTER UPDATE ON public.jobs FOR EACH ROW
WHEN (NEW.owner_id IS NOT NULL AND NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL)
EXECUTE FUNCTION public.add_webhook_event_of_job()
"""

ON_AUDIT = """
CREATE OR REPLACE TRIGGER add_webhook_event AFTER INSERT ON public.audit_events FOR EACH ROW
WHEN (NEW.user_id IS NOT NULL AND NEW.event IN (
    'email_change_undone', 'email_changed', 'key_created', 'key_revoked', 'passkey_added', 'passkey_removed',
    'password_changed', 'provider_linked', 'provider_unlinked', 'second_factor_added', 'second_factor_removed'
))
EXECUTE FUNCTION public.add_webhook_event_of_audit()
"""


def upgrade() -> None:
    """Create the tables, the functions and the triggers."""
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("rotated_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_because", sa.Text(collation="C"), nullable=True),
        sa.CheckConstraint(
            "disabled_because IN ('owner', 'gone', 'failing')", name=op.f("ck_webhook_endpoints_disabled_because")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_webhook_endpoints_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(op.f("ix_webhook_endpoints_user_id_id"), "webhook_endpoints", ["user_id", "id"])
    _create_deliveries()
    for statement in (ADD, OF_JOBS, OF_AUDIT, ON_JOBS, ON_AUDIT):
        op.execute(statement)


def _create_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event", sa.Text(collation="C"), nullable=False),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(collation="C"), server_default="pending", nullable=False),
        sa.Column("attempts", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'failed')", name=op.f("ck_webhook_deliveries_state")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_deliveries_endpoint_id_webhook_endpoints"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(op.f("ix_webhook_deliveries_endpoint_id_id"), "webhook_deliveries", ["endpoint_id", "id"])
    op.create_index(op.f("ix_webhook_deliveries_created_at"), "webhook_deliveries", ["created_at"])
    pending = sa.text("state = 'pending'")
    op.create_index("ix_webhook_deliveries_pending", "webhook_deliveries", ["created_at"], postgresql_where=pending)


def downgrade() -> None:
    """Drop them."""
    for statement in (
        "DROP TRIGGER add_webhook_event ON public.audit_events",
        "DROP TRIGGER add_webhook_event ON public.jobs",
        "DROP FUNCTION public.add_webhook_event_of_audit()",
        "DROP FUNCTION public.add_webhook_event_of_job()",
        "DROP FUNCTION public.add_webhook_event(uuid, text, jsonb)",
    ):
        op.execute(statement)
    op.drop_table("webhook_deliveries")
    op.drop_table("webhook_endpoints")
