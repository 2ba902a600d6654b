"""Batches and chains of jobs: what the end of a job does for its batch is done by a trigger, whoever ends it.

All is new beside what the previous release calls, so it goes on.

Revision ID: 4b7e2d9c1f50
Revises: 4d7a91c0e5b2
Create Date: 2026-12-01 00:01:00+00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "4b7e2d9c1f50"
down_revision: str | None = "4d7a91c0e5b2"
branch_labels: None = None
depends_on: None = None

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


def upgrade() -> None:
    """Make the tables, the column and the triggers; no row is written."""
    op.add_column("jobs", sa.Column("batch_id", sa.Uuid(), nullable=True))
    _create_batches()
    op.create_table(
        "job_links",
        sa.Column("after_id", sa.Uuid(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("job", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["job_batches.id"], name="fk_job_links_batch_id_job_batches", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("after_id", name="pk_job_links"),
    )
    op.create_index("ix_job_links_batch_id", "job_links", ["batch_id"])
    op.create_table(
        "job_batch_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        *(
            sa.Column(name, sa.Integer(), server_default="0", nullable=False)
            for name in ("added", "completed", "discarded", "cancelled")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_job_batch_changes"),
    )
    op.create_index("ix_job_batch_changes_batch_id", "job_batch_changes", ["batch_id"])
    for statement in (ENQUEUE, CHANGED, DELETED, ON_CHANGE, ON_DELETE):
        op.execute(statement)


def _create_batches() -> None:
    op.create_table(
        "job_batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=True),
        sa.Column("is_chain", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), server_default="0", nullable=False)
            for name in ("completed", "discarded", "cancelled")
        ),
        sa.Column("then_id", sa.Uuid(), nullable=True),
        sa.Column("then_job", postgresql.JSONB(), nullable=True),
        sa.Column("on_failure_id", sa.Uuid(), nullable=True),
        sa.Column("on_failure_job", postgresql.JSONB(), nullable=True),
        sa.Column("failed_id", sa.Uuid(), nullable=True),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("total >= 0", name=op.f("ck_job_batches_total")),
        sa.PrimaryKeyConstraint("id", name="pk_job_batches"),
        postgresql_with={"fillfactor": 70},
    )
    for name, columns, where in (
        ("ix_job_batches_owner_id_id", ["owner_id", "id"], "owner_id IS NOT NULL"),
        ("ix_job_batches_cancelled", ["id"], "cancelled_at IS NOT NULL AND ended_at IS NULL"),
        ("ix_job_batches_ended_at", ["ended_at"], "ended_at IS NOT NULL"),
    ):
        op.create_index(name, "job_batches", columns, postgresql_where=sa.text(where))


def downgrade() -> None:
    """Drop them: jobs of batches go on alone, and links that were not enqueued are lost."""
    op.execute("DROP TRIGGER job_of_batch_changed ON jobs")
    op.execute("DROP TRIGGER job_of_batch_deleted ON jobs")
    op.execute("DROP FUNCTION public.job_of_batch_changed()")
    op.execute("DROP FUNCTION public.job_of_batch_deleted()")
    op.execute("DROP FUNCTION public.enqueue_stored_job(jsonb)")
    op.drop_table("job_batch_changes")
    op.drop_table("job_links")
    op.drop_table("job_batches")
    op.drop_column("jobs", "batch_id")
