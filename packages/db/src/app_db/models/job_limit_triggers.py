"""The triggers of `jobs` that hold jobs with a limit, and signal their arrivals, starts and ends (ADR-0081).

A revision makes the same; a test compares both.
"""

from typing import Any, Final

from sqlalchemy import Connection, MetaData

# One signal for each key, queue and transaction: a signal of another transaction may be read before this one commits.
SIGNAL: Final = """
CREATE FUNCTION public.signal_job_limit(kind text, key text, arrived_in text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.job_limit_signals (name, limit_key, queue) SELECT kind, key, arrived_in WHERE NOT EXISTS (
        SELECT FROM public.job_limit_signals AS own
        WHERE own.name = kind AND own.limit_key = key AND own.queue IS NOT DISTINCT FROM arrived_in
            AND own.started_at IS NULL AND own.xmin = CAST(pg_current_xact_id() AS xid)
    )
$$
"""

# A job that waits is held back: `due_at` says when it is due, and no claim finds it at `claim_at`. Only an admission
# sets `due_at` to NULL.
HOLD: Final = """
CREATE FUNCTION public.hold_limited_job() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held constant timestamptz := '9999-01-01 00:00Z';
    was_admitted constant boolean := TG_OP = 'UPDATE' AND OLD.due_at IS NULL AND OLD.finished_at IS NULL;
    ends boolean;
BEGIN
    IF NEW.state NOT IN ('scheduled', 'available', 'retryable') THEN
        NEW.due_at := NULL;
    ELSIF TG_OP = 'UPDATE' AND OLD.due_at IS NOT NULL AND NEW.due_at IS NULL THEN
        RETURN NEW;
    ELSIF NEW.claim_at < held THEN
        NEW.due_at := NEW.claim_at;
        NEW.claim_at := held;
        NEW.state := CASE NEW.state WHEN 'available' THEN 'scheduled' ELSE NEW.state END;
    END IF;
    IF NEW.due_at IS NOT NULL THEN
        PERFORM public.signal_job_limit(NEW.kind, NEW.limit_key, NEW.queue);
    END IF;
    IF was_admitted THEN
        ends := NEW.due_at IS NOT NULL OR NEW.finished_at IS NOT NULL;
        IF ends THEN
            PERFORM public.signal_job_limit(NEW.kind, NEW.limit_key, NULL);
        END IF;
        -- A start in tx mode that was rolled back counts when its failure is recorded.
        IF OLD.state = 'dispatched' AND (ends OR NEW.state = 'executing')
                OR OLD.state <> 'executing' AND NEW.state IN ('executing', 'completed') THEN
            INSERT INTO public.job_limit_signals (name, limit_key, queue, started_at)
            SELECT NEW.kind, NEW.limit_key, NEW.queue, clock_timestamp() FROM public.job_limits AS known
            WHERE known.name = NEW.kind
                AND CASE WHEN known.set_at IS NULL THEN known.rate ELSE known.set_rate END IS NOT NULL;
        END IF;
    END IF;
    RETURN NEW;
END
$$
"""

GONE: Final = """
CREATE FUNCTION public.signal_deleted_job() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.signal_job_limit(OLD.kind, OLD.limit_key, NULL);
    RETURN NULL;
END
$$
"""

TRIGGERS: Final = (
    """
CREATE TRIGGER hold_limited_job BEFORE INSERT OR UPDATE OF state, claim_at, queue ON public.jobs
    FOR EACH ROW WHEN (NEW.limit_key IS NOT NULL) EXECUTE FUNCTION public.hold_limited_job()
""",
    """
CREATE TRIGGER signal_deleted_job AFTER DELETE ON public.jobs
    FOR EACH ROW WHEN (OLD.limit_key IS NOT NULL AND OLD.finished_at IS NULL)
    EXECUTE FUNCTION public.signal_deleted_job()
""",
)


def add_triggers_to(_: MetaData, connection: Connection, **__: Any) -> None:  # Any: as SQLAlchemy calls it
    """Make the functions and triggers, after `create_all` has made the tables."""
    for statement in (SIGNAL, HOLD, GONE, *TRIGGERS):
        connection.exec_driver_sql(statement)
