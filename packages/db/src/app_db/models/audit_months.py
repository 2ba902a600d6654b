"""The months of the audit: partitions, and functions by which the applications' role changes them (ADR-0076).

Revisions make the same; a test compares both.
"""

from typing import Any, Final

from sqlalchemy import Connection, Table

ADD_MONTH: Final = """
CREATE FUNCTION public.add_audit_month() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    month timestamp;
    name text;
    within text;
    move text;
    moved bigint;
    role regrole;
BEGIN
    -- One at a time; it conflicts with no INSERT and no SELECT.
    LOCK TABLE public.audit_events IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT min(wanted) INTO month
    FROM generate_series(0, 3) AS ahead,
        LATERAL (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead)) AS at (wanted)
    WHERE NOT EXISTS (
        SELECT FROM public.audit_months() AS known
        WHERE known.first_id <= public.audit_id_at(wanted) AND public.audit_id_at(wanted) < known.end_id
    );
    IF month IS NULL THEN
        RETURN NULL;
    END IF;
    name := to_char(month, '"audit_events_"YYYY"_"MM');
    within := format(
        'id >= %L AND id < %L', public.audit_id_at(month), public.audit_id_at(month + interval '1 month')
    );
    move := format(
        'WITH gone AS (DELETE FROM public.audit_events_default WHERE %s RETURNING *) '
        'INSERT INTO public.%I SELECT * FROM gone', within, name
    );
    EXECUTE format(
        'CREATE TABLE public.%I (LIKE public.audit_events INCLUDING ALL, CONSTRAINT within CHECK (%s))', name, within
    );
    -- Most of them before the locks, which last only for those that came meanwhile.
    EXECUTE move;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved > 0 OR month < (now() AT TIME ZONE 'UTC') + interval '1 day' THEN
        -- What waits for the lock below has chosen its part already: it would be refused, or miss what has moved.
        LOCK TABLE public.audit_events IN ACCESS EXCLUSIVE MODE;
    END IF;
    LOCK TABLE public.audit_events_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE move;
    EXECUTE format(
        'ALTER TABLE public.audit_events ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
        name, public.audit_id_at(month), public.audit_id_at(month + interval '1 month')
    );
    EXECUTE format('ALTER TABLE public.%I DROP CONSTRAINT within', name);
    -- All rights are those on the whole.
    FOR role IN
        SELECT DISTINCT grantee FROM pg_class, aclexplode(relacl)
        WHERE oid = to_regclass(format('public.%I', name)) AND grantee NOT IN (relowner, 0)
    LOOP
        EXECUTE format('REVOKE ALL ON public.%I FROM %s', name, role);
    END LOOP;
    RETURN name;
END
$$
"""

DROP_MONTH: Final = """
CREATE FUNCTION public.drop_audit_month(keep interval) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    ended text;
BEGIN
    IF keep IS NULL OR now() - keep > now() - interval '90 days' THEN
        RAISE insufficient_privilege USING MESSAGE = 'the audit of the last 90 days is kept';
    END IF;
    LOCK TABLE public.audit_events IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT month.name INTO ended FROM public.audit_months() AS month
    WHERE month.end_id <= public.audit_id_at((now() - keep) AT TIME ZONE 'UTC') ORDER BY month.end_id LIMIT 1;
    IF ended IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('DROP TABLE public.%I', ended);
    INSERT INTO public.audit_events (id, event, details)
    VALUES (uuidv7(), 'audit_month_dropped', jsonb_build_object('month', ended));
    RETURN ended;
END
$$
"""

DROP_EXPORTED_MONTH: Final = """
CREATE FUNCTION public.drop_exported_audit_month(keep interval) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    ended text;
    events bigint;
BEGIN
    -- No month can change until the end: the function below drops the one that is looked at here.
    LOCK TABLE public.audit_events IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT month.name INTO ended FROM public.audit_months() AS month
    WHERE month.end_id <= public.audit_id_at((now() - keep) AT TIME ZONE 'UTC') ORDER BY month.end_id LIMIT 1;
    IF NOT EXISTS (
        SELECT FROM public.audit_events WHERE event = 'audit_month_exported' AND details ->> 'month' = ended
    ) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT count(*) FROM public.%I', ended) INTO events;
    IF NOT EXISTS (
        SELECT FROM public.audit_events
        WHERE event = 'audit_month_exported' AND details ->> 'month' = ended AND details ->> 'rows' = text(events)
    ) THEN
        RETURN NULL;
    END IF;
    RETURN public.drop_audit_month(keep);
END
$$
"""

# Autovacuum analyses each month, and never the whole: it has no rows of its own.
ANALYZE: Final = """
CREATE FUNCTION public.analyze_audit_months() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
BEGIN
    IF pg_stat_get_last_analyze_time('public.audit_events'::regclass) > now() - interval '1 day' THEN
        RETURN false;
    END IF;
    ANALYZE ONLY public.audit_events;
    RETURN true;
END
$$
"""

ID_AT: Final = """
CREATE OR REPLACE FUNCTION public.audit_id_at(utc timestamp) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN CAST(rpad(lpad(to_hex(CAST(extract(epoch FROM utc) * 1000 AS bigint)), 12, '0'), 32, '0') AS uuid)
"""

MONTHS: Final = """
CREATE FUNCTION public.audit_months(OUT name text, OUT first_id uuid, OUT end_id uuid) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT relname,
        coalesce(CAST(substring(bounds FROM $re$FROM \\('([0-9a-f-]+)'\\)$re$) AS uuid), CAST(repeat('0', 32) AS uuid)),
        coalesce(CAST(substring(bounds FROM $re$TO \\('([0-9a-f-]+)'\\)$re$) AS uuid), CAST(repeat('f', 32) AS uuid))
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid, pg_get_expr(relpartbound, inhrelid) AS bounds
    WHERE inhparent = to_regclass('public.audit_events') AND bounds <> 'DEFAULT'
$$
"""

DEFAULT: Final = "CREATE TABLE public.audit_events_default PARTITION OF public.audit_events DEFAULT"

REVOKE: Final = """
REVOKE ALL ON FUNCTION public.add_audit_month(), public.drop_audit_month(interval),
    public.drop_exported_audit_month(interval), public.analyze_audit_months() FROM PUBLIC
"""


def add_months_to(_: Table, connection: Connection, **__: Any) -> None:  # Any: as SQLAlchemy calls it
    """Make what is no table, after `create_all` has made the table."""
    for statement in (DEFAULT, ID_AT, MONTHS, ADD_MONTH, DROP_MONTH, DROP_EXPORTED_MONTH, ANALYZE, REVOKE):
        connection.exec_driver_sql(statement)
