"""Triggers that record events of accounts and jobs, in the transaction that makes them true (ADR-0082).

No code path can forget them, and whoever has no endpoint pays for one look into an index, at the end of a job.
Revisions make the same; a test compares both.
"""

from typing import Any, Final

from sqlalchemy import Connection, MetaData

from app_db.features.webhooks.event_names import OF_AUDIT as NAMES

# SKIP LOCKED: an endpoint that another transaction deletes gets nothing more, and nobody waits for that transaction,
# which may wait for the job that has ended here.
ADD: Final = """
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

OF_JOBS: Final = """
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

OF_AUDIT: Final = """
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

ON_JOBS: Final = """
CREATE OR REPLACE TRIGGER add_webhook_event AFTER UPDATE ON public.jobs FOR EACH ROW
WHEN (NEW.owner_id IS NOT NULL AND NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL)
EXECUTE FUNCTION public.add_webhook_event_of_job()
"""

# A line each: the revision of `make feature-remove` has this text.
_LISTED: Final = ",\n    ".join(f"'{name}'" for name in NAMES)
ON_AUDIT: Final = f"""
CREATE OR REPLACE TRIGGER add_webhook_event AFTER INSERT ON public.audit_events FOR EACH ROW
WHEN (NEW.user_id IS NOT NULL AND NEW.event IN (
    {_LISTED}
))
EXECUTE FUNCTION public.add_webhook_event_of_audit()
"""

BESIDE_TABLES: Final = (
    (ADD, "DROP FUNCTION public.add_webhook_event(uuid, text, jsonb)"),
    (OF_JOBS, "DROP FUNCTION public.add_webhook_event_of_job()"),
    (OF_AUDIT, "DROP FUNCTION public.add_webhook_event_of_audit()"),
    (ON_JOBS, "DROP TRIGGER add_webhook_event ON public.jobs"),
    (ON_AUDIT, "DROP TRIGGER add_webhook_event ON public.audit_events"),
)
"""What is no table, and how it is dropped, in the opposite order: `make feature-remove` writes that."""


def create_all(_: MetaData, connection: Connection, **__: Any) -> None:  # Any: as SQLAlchemy calls it
    """Make what is no table, after `create_all` has made all tables."""
    for creation, _drop in BESIDE_TABLES:
        connection.exec_driver_sql(creation)
