"""Limits of jobs per key: jobs that wait for their turn are held back by a trigger.

No statement that makes a job due can forget the limit, and none that ends one can forget to say so: the trigger does
both. For jobs without a `limit_key`, its condition is false. Jobs with one are enqueued by releases that admit them.

Revision ID: d81c5f3a7e20
Revises: 6c1f8a4d2e73
Create Date: 2026-12-01 00:10:00+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "d81c5f3a7e20"
down_revision: str | None = "6c1f8a4d2e73"
branch_labels: None = None
depends_on: None = None

# One signal for each key, queue and transaction: a signal of another transaction may be read before this one commits.
SIGNAL = """
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
HOLD = """
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

GONE = """
CREATE FUNCTION public.signal_deleted_job() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.signal_job_limit(OLD.kind, OLD.limit_key, NULL);
    RETURN NULL;
END
$$
"""

TRIGGERS = (
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


def upgrade() -> None:
    """Add columns, tables and triggers; no row is written."""
    op.add_column("jobs", sa.Column("limit_key", sa.Text(collation="C"), nullable=True))
    op.add_column("jobs", sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))
    _create_tables()
    for statement in (SIGNAL, HOLD, GONE, *TRIGGERS):
        op.execute(statement)


def _create_tables() -> None:
    op.create_table(
        "job_limits",
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("per", sa.Text(), nullable=True),
        sa.Column("running", sa.Integer(), nullable=True),
        sa.Column("rate", sa.Integer(), nullable=True),
        sa.Column("period", sa.Interval(), nullable=True),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("set_by", sa.Text(), nullable=True),
        sa.Column("set_running", sa.Integer(), nullable=True),
        sa.Column("set_rate", sa.Integer(), nullable=True),
        sa.Column("set_period", sa.Interval(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_limits")),
    )
    op.create_table(
        "job_limit_keys",
        sa.Column("limit_key", sa.Text(collation="C"), nullable=False),
        sa.Column("queue", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("admit_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started", postgresql.ARRAY(sa.DateTime(timezone=True)), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("limit_key", "queue", name=op.f("pk_job_limit_keys")),
        postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.01},
    )
    op.create_index(op.f("ix_job_limit_keys_queue_admit_at"), "job_limit_keys", ["queue", "admit_at"], unique=False)
    op.create_index(op.f("ix_job_limit_keys_name"), "job_limit_keys", ["name"], unique=False)
    op.create_table(
        "job_limit_signals",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("limit_key", sa.Text(collation="C"), nullable=False),
        sa.Column("queue", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_limit_signals")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0.01,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_cost_delay": 0,
        },
    )
    op.create_index(
        op.f("ix_job_limit_signals_name_limit_key"), "job_limit_signals", ["name", "limit_key"], unique=False
    )


def downgrade() -> None:
    """Make the jobs due that wait for a limit, and drop the limits."""
    op.execute("DROP TRIGGER hold_limited_job ON public.jobs")
    op.execute("DROP TRIGGER signal_deleted_job ON public.jobs")
    for function in ("hold_limited_job()", "signal_deleted_job()", "signal_job_limit(text, text, text)"):
        op.execute(f"DROP FUNCTION public.{function}")
    op.execute("UPDATE public.jobs SET claim_at = due_at WHERE due_at IS NOT NULL")
    for table in ("job_limit_signals", "job_limit_keys", "job_limits"):
        op.drop_table(table)
    op.drop_column("jobs", "due_at")
    op.drop_column("jobs", "limit_key")
