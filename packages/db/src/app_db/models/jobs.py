"""The job ledger. Postgres is the truth about every job; Valkey holds a disposable queue of deliveries (ADR-0008)."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, Text, Uuid, false, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app_db.base import Base
from app_db.types import KEY_TEXT, StrEnumText, enum_check, new_id


class JobState(StrEnum):
    """Where a job is; in this order from its acceptance to one of its ends."""

    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    DISPATCHED = "dispatched"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"


FINAL_STATES = frozenset({JobState.COMPLETED, JobState.DISCARDED, JobState.CANCELLED})
OPEN_STATES = frozenset(JobState) - FINAL_STATES
"""The states of a job that is still to run, or runs."""


class Job(Base):
    """One job, from `enqueue` to its end. Every change of state is one UPDATE that is fenced by `(id, fence)`."""

    __tablename__ = "jobs"
    __table_args__ = (
        enum_check("state", JobState),
        CheckConstraint("max_attempts > 0", name="max_attempts"),
        # Due work, schedule, retries and orphans are all the same question: claim_at <= now().
        Index("ix_jobs_claim", "queue", "priority", "claim_at", postgresql_where=text("claim_at IS NOT NULL")),
        Index("ix_jobs_owner_id_id", "owner_id", "id", postgresql_where=text("owner_id IS NOT NULL")),
        # Only queues with a limit count what runs; the index is small, for a job is in it for a moment.
        # For counting alone. Statements about one job by its id say nothing of claim_at, so none can be planned with
        # it: it is always nearly empty, so it looks cheap, and beside an open snapshot it is full of dead entries.
        Index(
            "ix_jobs_on_their_way",
            "queue",
            postgresql_where=text("claim_at IS NOT NULL AND state IN ('dispatched', 'executing')"),
        ),
        # By kind, so that what is kept for longer, or for less, is not in the way of retention.
        Index(
            "ix_jobs_ended", "state", "queue", "kind", "finished_at", postgresql_where=text("finished_at IS NOT NULL")
        ),
        # For lists and counts. A job that is enqueued, runs and completes is never in it, and costs nothing more.
        Index(
            "ix_jobs_set_apart",
            "state",
            "queue",
            "kind",
            "id",
            postgresql_where=text("state IN ('scheduled', 'retryable', 'discarded', 'cancelled')"),
        ),
        Index(
            "uq_jobs_unique_key",
            "unique_key",
            unique=True,
            postgresql_where=text("unique_key IS NOT NULL AND state = ANY (unique_states)"),
        ),
        # Rows are rewritten three or four times in their short life: room on the page, and a vacuum that keeps up.
        {
            "postgresql_with": {
                "fillfactor": 70,
                "autovacuum_vacuum_scale_factor": 0.01,
                "autovacuum_vacuum_threshold": 1000,
                "autovacuum_vacuum_cost_delay": 0,
            }
        },
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID | None]
    """The user who started it. No foreign key: a job outlives its owner."""
    kind: Mapped[str] = mapped_column(KEY_TEXT)
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    payload_version: Mapped[int] = mapped_column(SmallInteger)
    queue: Mapped[str] = mapped_column(KEY_TEXT, server_default="default")
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="2")
    """The lowest is served first."""
    state: Mapped[JobState] = mapped_column(StrEnumText(JobState))
    claim_at: Mapped[datetime | None]
    """When a relay must look at this row: the due time, the end of a lease or of a backoff; NULL once it is final."""
    run_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(server_default="0")
    """Raised at each dispatch, so that (id, fence) names one delivery and a late one can be told."""
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    max_attempts: Mapped[int | None] = mapped_column(SmallInteger)
    """NULL means what the handler says."""
    redeliveries: Mapped[int] = mapped_column(server_default="0")
    """Deliveries that nobody started. Only counted: they cost no attempt."""
    crashes: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    """Leases lost after a start that was on record."""
    worker_id: Mapped[UUID | None]
    unique_key: Mapped[str | None] = mapped_column(KEY_TEXT)
    unique_states: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    result: Mapped[Any | None] = mapped_column(JSONB)
    progress: Mapped[Any | None] = mapped_column(JSONB)
    request_id: Mapped[str | None] = mapped_column(Text)
    traceparent: Mapped[str | None] = mapped_column(Text)


class JobError(Base):
    """What went wrong in one attempt. Insert-only."""

    __tablename__ = "job_errors"
    __table_args__ = (Index(None, "job_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int] = mapped_column(SmallInteger)
    failed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    error: Mapped[str] = mapped_column(Text)
    trace: Mapped[str | None] = mapped_column(Text)


class JobQueue(Base):
    """What an operator has set for a queue; a queue without a row runs without limits."""

    __tablename__ = "job_queues"

    name: Mapped[str] = mapped_column(KEY_TEXT, primary_key=True)
    paused_at: Mapped[datetime | None]
    max_running: Mapped[int | None]
    """The limit over all workers together."""


class JobCron(Base):
    """Up to where the ticks of each cron were dealt with. Moving that by compare-and-set makes a tick fire once."""

    __tablename__ = "job_crons"

    name: Mapped[str] = mapped_column(KEY_TEXT, primary_key=True)
    last_tick_at: Mapped[datetime]
    done_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When a job of it last did its work, where its handler says so; before that, since when the cron is known."""


class JobWorker(Base):
    """A worker process; one that stops deletes its row, one that was killed stops moving `beat_at`."""

    __tablename__ = "job_workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int]
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text))
    concurrency: Mapped[int]
    """Jobs that it runs at once, per queue."""
    running: Mapped[int] = mapped_column(server_default="0")
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    beat_at: Mapped[datetime] = mapped_column(server_default=func.now())
    draining: Mapped[bool] = mapped_column(server_default=false())
    holding: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid), server_default="{}")
    """The jobs that it has in hand, which no relay takes from it until `holds_until`."""
    holds_until: Mapped[datetime] = mapped_column(server_default=func.now())
    smtputf8: Mapped[bool | None]
    """Whether its mail server takes addresses beyond ASCII (RFC 6531); NULL as long as that is not known."""


class JobCancellation(Base):
    """A cancellation request: a row of its own, because the handler of the job may have locked the row of the job."""

    __tablename__ = "job_cancellations"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
