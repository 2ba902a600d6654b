"""The audit by month: partitions, and functions that add and drop them.

The events that are there become the first partition as they are, with room for three months, and no row is copied. The
previous release goes on inserting: the name and the columns are the same.

Revision ID: 5b3e8d1c7f60
Revises: 7c1e9b4d2a60
Create Date: 2026-11-30 16:40:00+00:00
"""

from alembic import op

revision: str = "5b3e8d1c7f60"
down_revision: str | None = "7c1e9b4d2a60"
branch_labels: None = None
depends_on: None = None

ID_AT = """
CREATE OR REPLACE FUNCTION public.audit_id_at(utc timestamp) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN CAST(rpad(lpad(to_hex(CAST(extract(epoch FROM utc) * 1000 AS bigint)), 12, '0'), 32, '0') AS uuid)
"""

MONTHS = """
CREATE FUNCTION public.audit_months(OUT name text, OUT first_id uuid, OUT end_id uuid) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT relname,
        coalesce(CAST(substring(bounds FROM $re$FROM \\('([0-9a-f-]+)'\\)$re$) AS uuid), CAST(repeat('0', 32) AS uuid)),
        coalesce(CAST(substring(bounds FROM $re$TO \\('([0-9a-f-]+)'\\)$re$) AS uuid), CAST(repeat('f', 32) AS uuid))
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid, pg_get_expr(relpartbound, inhrelid) AS bounds
    WHERE inhparent = to_regclass('public.audit_events') AND bounds <> 'DEFAULT'
$$
"""

ADD_MONTH = """
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

DROP_MONTH = """
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

FUNCTIONS = "public.add_audit_month(), public.drop_audit_month(interval)"
# An earlier try may have left a bound; one that comes soon would refuse rows if nobody migrates again.
BOUND = """
DO $$
DECLARE
    newest text := replace(text((SELECT id FROM audit_events ORDER BY id DESC LIMIT 1)), '-', '');
    month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
BEGIN
    IF EXISTS (
        SELECT FROM pg_constraint WHERE conrelid = 'audit_events'::regclass AND conname = 'within'
            AND substring(pg_get_constraintdef(oid) FROM '[0-9a-f-]{36}')
                > text(public.audit_id_at(month + interval '2 months'))
    ) THEN
        RETURN;
    END IF;
    month := greatest(month + interval '3 months', date_trunc('month', to_timestamp(
        CAST(CAST('x' || left(newest, 12) AS bit(48)) AS bigint) / 1000.0) AT TIME ZONE 'UTC') + interval '1 month');
    ALTER TABLE audit_events DROP CONSTRAINT IF EXISTS within;
    EXECUTE format(
        'ALTER TABLE audit_events ADD CONSTRAINT within CHECK (id < %L) NOT VALID', public.audit_id_at(month)
    );
END
$$
"""
INDEXES = {
    "user_id_id": "(user_id, id)",
    "event_id": "(event, id)",
    "actor_id_id": "(actor_id, id) WHERE actor_id IS NOT NULL",
    "client_address_id": "(client_address, id) WHERE client_address IS NOT NULL",
}
# No other role has a right on a part, and on the whole each has those that it had.
RIGHTS = """
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT DISTINCT oid::regclass AS part, grantee::regrole AS role FROM pg_class, aclexplode(relacl)
        WHERE relname IN ('{new}', 'audit_events_default') AND relnamespace = 'public'::regnamespace
            AND grantee NOT IN (relowner, 0)
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', item.part, item.role);
    END LOOP;
    FOR item IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE text(grantee::regrole) END AS role, privilege_type AS privilege
        FROM pg_class, aclexplode(relacl) WHERE oid = '{old}'::regclass AND grantee <> relowner
    LOOP
        EXECUTE format('GRANT %s ON {new} TO %s', item.privilege, item.role);
        EXECUTE format('REVOKE %s ON {old} FROM %s', item.privilege, item.role);
        IF item.privilege = 'INSERT' THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION {functions} TO %s', item.role);
        END IF;
    END LOOP;
END
$$
"""
# The CHECK has been validated, so no row is read.
ATTACH = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM audit_events_first) THEN
        EXECUTE (
            SELECT format(
                'ALTER TABLE audit_events ATTACH PARTITION audit_events_first FOR VALUES FROM (MINVALUE) TO (%L)',
                substring(pg_get_constraintdef(oid) FROM '[0-9a-f-]{36}')
            ) FROM pg_constraint WHERE conrelid = 'audit_events_first'::regclass AND conname = 'within'
        );
        ALTER TABLE audit_events_first DROP CONSTRAINT within;
    ELSE
        DROP TABLE audit_events_first;
    END IF;
END
$$
"""


def upgrade() -> None:
    """Let the table become a partition of a new one of its name; all rows are read before, without a lock."""
    with op.get_context().autocommit_block():
        op.execute(ID_AT)
        op.execute(BOUND)
        op.execute("ALTER TABLE audit_events VALIDATE CONSTRAINT within")
    op.execute("-- squawk-ignore renaming-table\nALTER TABLE audit_events RENAME TO audit_events_first")
    op.execute("-- squawk-ignore renaming-object\nALTER INDEX pk_audit_events RENAME TO audit_events_first_pkey")
    ignore = "-- squawk-ignore renaming-object\n"
    for name in INDEXES:
        op.execute(f"{ignore}ALTER INDEX ix_audit_events_{name} RENAME TO audit_events_first_{name}_idx")
    op.execute(
        "CREATE TABLE audit_events (LIKE audit_events_first INCLUDING DEFAULTS, "
        "CONSTRAINT pk_audit_events PRIMARY KEY (id)) PARTITION BY RANGE (id)"
    )
    make_indexes()
    op.execute("CREATE TABLE public.audit_events_default PARTITION OF public.audit_events DEFAULT")
    for statement in (MONTHS, ADD_MONTH, DROP_MONTH, f"REVOKE ALL ON FUNCTION {FUNCTIONS} FROM PUBLIC"):
        op.execute(statement)
    op.execute(RIGHTS.format(new="audit_events", old="audit_events_first", functions=FUNCTIONS))
    op.execute(ATTACH)


def downgrade() -> None:
    """Copy all rows into one table."""
    op.execute("LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE")
    op.execute("CREATE TABLE audit_events_whole (LIKE audit_events INCLUDING DEFAULTS)")
    op.execute("INSERT INTO audit_events_whole SELECT * FROM audit_events")
    op.execute(RIGHTS.format(new="audit_events_whole", old="audit_events", functions=FUNCTIONS))
    op.execute(f"DROP FUNCTION {FUNCTIONS}, public.audit_months(), public.audit_id_at(timestamp)")
    op.execute("DROP TABLE audit_events")
    op.execute("ALTER TABLE audit_events_whole RENAME TO audit_events")
    op.execute("ALTER TABLE audit_events ADD CONSTRAINT pk_audit_events PRIMARY KEY (id)")
    make_indexes()


def make_indexes() -> None:
    """Make the indexes; the table is new."""
    ignore = "-- squawk-ignore require-concurrent-index-creation\n"
    for name, of in INDEXES.items():
        op.execute(f"{ignore}CREATE INDEX ix_audit_events_{name} ON audit_events {of}")
