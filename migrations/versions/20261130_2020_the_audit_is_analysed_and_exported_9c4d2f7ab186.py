"""The audit as a whole is analysed, months can wait for their export, and crons say what their jobs apply.

All is new beside what the previous release calls, so it goes on.

Revision ID: 9c4d2f7ab186
Revises: 9a4e6c1b7d35
Create Date: 2026-11-30 20:20:00+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "9c4d2f7ab186"
down_revision: str | None = "9a4e6c1b7d35"
branch_labels: None = None
depends_on: None = None

DROP_EXPORTED_MONTH = """
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

ANALYZE = """
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

FUNCTIONS = "public.drop_exported_audit_month(interval), public.analyze_audit_months()"
# Who may drop months may call these, too.
RIGHTS = """
DO $$
DECLARE
    role regrole;
BEGIN
    FOR role IN
        SELECT DISTINCT grantee FROM pg_proc, aclexplode(proacl)
        WHERE oid = 'public.drop_audit_month(interval)'::regprocedure AND grantee NOT IN (proowner, 0)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', '{functions}', role);
    END LOOP;
END
$$
"""


def upgrade() -> None:
    """Make the functions, and the column."""
    for statement in (DROP_EXPORTED_MONTH, ANALYZE, f"REVOKE ALL ON FUNCTION {FUNCTIONS} FROM PUBLIC"):
        op.execute(statement)
    op.execute(RIGHTS.format(functions=FUNCTIONS))
    op.add_column("job_crons", sa.Column("applied", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("job_crons", "applied")
    op.execute(f"DROP FUNCTION {FUNCTIONS}")
