"""What the end of a job does for its batch, in the database: no way to end a job can forget it (ADR-0079).

A revision makes the same; a test compares both.
"""

from typing import Any

from sqlalchemy import Connection, MetaData

# A link is a whole row of jobs: what a later revision adds to the table needs no other function.
ENQUEUE = """
CREATE FUNCTION public.enqueue_stored_job(job jsonb) RETURNS void
LANGUAGE sql STRICT SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.jobs SELECT stored.* FROM jsonb_populate_record(
        NULL::public.jobs,
        '{"fence": 0, "attempt": 0, "redeliveries": 0, "crashes": 0, "state": "available"}' || job
            || jsonb_build_object('created_at', now(), 'run_at', now(), 'claim_at', now())
    ) AS stored
$$
"""

CHANGED = """
CREATE FUNCTION public.job_of_batch_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    link jsonb;
BEGIN
    INSERT INTO public.job_batch_changes (batch_id, job_id, completed, discarded, cancelled) VALUES (
        NEW.batch_id, NEW.id,
        (NEW.state = 'completed')::integer - (OLD.state = 'completed')::integer,
        (NEW.state = 'discarded')::integer - (OLD.state = 'discarded')::integer,
        (NEW.state = 'cancelled')::integer - (OLD.state = 'cancelled')::integer
    );
    IF NEW.state = 'completed' THEN
        DELETE FROM public.job_links WHERE after_id = NEW.id RETURNING job INTO link;
        IF FOUND THEN
            PERFORM public.enqueue_stored_job(link);
        END IF;
    END IF;
    RETURN NULL;
END
$$
"""
ON_CHANGE = """
CREATE TRIGGER job_of_batch_changed AFTER UPDATE OF state ON jobs FOR EACH ROW
WHEN (NEW.batch_id IS NOT NULL AND (OLD.finished_at IS NULL) <> (NEW.finished_at IS NULL))
EXECUTE FUNCTION public.job_of_batch_changed()
"""

# Nothing of ours deletes open jobs; a person may.
DELETED = """
CREATE FUNCTION public.job_of_batch_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO public.job_batch_changes (batch_id, job_id, cancelled) VALUES (OLD.batch_id, OLD.id, 1);
    RETURN NULL;
END
$$
"""
ON_DELETE = """
CREATE TRIGGER job_of_batch_deleted AFTER DELETE ON jobs FOR EACH ROW
WHEN (OLD.batch_id IS NOT NULL AND OLD.finished_at IS NULL)
EXECUTE FUNCTION public.job_of_batch_deleted()
"""


def add_triggers(metadata: MetaData, connection: Connection, **_: Any) -> None:  # Any: of SQLAlchemy
    """Make what is no table, after `create_all` has made the tables."""
    for statement in (ENQUEUE, CHANGED, DELETED, ON_CHANGE, ON_DELETE):
        connection.exec_driver_sql(statement)
