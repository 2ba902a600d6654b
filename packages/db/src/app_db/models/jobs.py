"""The job ledger. Postgres is the truth about every job; Valkey holds a disposable queue of deliveries (ADR-0008)."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, SmallInteger, Text, Uuid, false, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app_db.base import Base
from app_db.growth import Growth
from app_db.types import KEY_TEXT, StrEnumText, enum_check, new_id


class JobState(StrEnum):
    """The state of a job, in the order from `enqueue` to one of its final states."""

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
"""The states of a job that waits or runs."""


class Job(Base):
    """One job, from `enqueue` to its end. Every change of state is one UPDATE that is fenced by `(id, fence)`."""

    __tablename__ = "jobs"
    __growth__ = Growth(
        "a job, with its payload and result",
        until="it has ended (`APP_RETENTION__COMPLETED`, `…CANCELLED`, `…DISCARDED`)",
        row_bytes=1200,
    )
    __table_args__ = (
        enum_check("state", JobState),
        CheckConstraint("max_attempts > 0", name="max_attempts"),
        # Relays ask one question for due, scheduled, retried and orphaned jobs: claim_at <= now().
        Index("ix_jobs_claim", "queue", "priority", "claim_at", postgresql_where=text("claim_at IS NOT NULL")),
        Index("ix_jobs_owner_id_id", "owner_id", "id", postgresql_where=text("owner_id IS NOT NULL")),
        Index("ix_jobs_batch_id_state_id", "batch_id", "state", "id", postgresql_where=text("batch_id IS NOT NULL")),
        # Only claims of queues with a limit count running jobs; a job is in this small index for a moment.
        # For counting only. Statements about one job by its id must not name claim_at, so that none is planned with
        # it: nearly empty, it looks cheap to the planner, and beside an open snapshot it is full of dead entries.
        Index(
            "ix_jobs_on_their_way",
            "queue",
            postgresql_where=text("claim_at IS NOT NULL AND state IN ('dispatched', 'executing')"),
        ),
        # By kind, so that retention does not read jobs of kinds that are kept longer.
        Index(
            "ix_jobs_ended", "state", "queue", "kind", "finished_at", postgresql_where=text("finished_at IS NOT NULL")
        ),
        # For lists and counts. A job that is enqueued, runs and completes is never in it, so it costs that job nothing.
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
        Index("ix_jobs_origin_id_id", "origin_id", "id", postgresql_where=text("origin_id IS NOT NULL")),
        # Both have jobs with a limit only: those that wait for their turn, and those that count towards the limit.
        Index("ix_jobs_held", "limit_key", "queue", "priority", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index(
            "ix_jobs_admitted",
            "limit_key",
            postgresql_where=text("limit_key IS NOT NULL AND due_at IS NULL AND finished_at IS NULL"),
        ),
        # Rows are updated three or four times, so leave free space on each page, and vacuum often.
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
    """The user who started it. No foreign key, because a job outlives its owner."""
    kind: Mapped[str] = mapped_column(KEY_TEXT)
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    payload_version: Mapped[int] = mapped_column(SmallInteger)
    queue: Mapped[str] = mapped_column(KEY_TEXT, server_default="default")
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="2")
    """Jobs with the lowest number run first."""
    state: Mapped[JobState] = mapped_column(StrEnumText(JobState))
    claim_at: Mapped[datetime | None]
    """When a relay may claim the job: its due time, the end of its lease or back-off; NULL once it has ended.

    `LAST_TIME` while the job waits for its limit: a trigger sees to that (ADR-0081).
    """
    limit_key: Mapped[str | None] = mapped_column(KEY_TEXT)
    """What its limit counts by: the kind, and the value of `per`; NULL without a limit."""
    due_at: Mapped[datetime | None]
    """When a job is due that waits for its limit; NULL for jobs without one, and once it was admitted."""
    run_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(server_default="0")
    """Raised by each claim: (id, fence) names one delivery, and statements of an older delivery change nothing."""
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    max_attempts: Mapped[int | None] = mapped_column(SmallInteger)
    """NULL means the limit of the handler."""
    redeliveries: Mapped[int] = mapped_column(server_default="0")
    """Deliveries that no worker started. They cost no attempt."""
    crashes: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    """Leases that expired after a committed start."""
    worker_id: Mapped[UUID | None]
    unique_key: Mapped[str | None] = mapped_column(KEY_TEXT)
    unique_states: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    result: Mapped[Any | None] = mapped_column(JSONB)
    progress: Mapped[Any | None] = mapped_column(JSONB)
    steps: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    """What its attempts have committed in lease mode, in order: name and result."""
    cursor: Mapped[Any | None] = mapped_column(JSONB)
    """How far its attempts have come, as the handler has written it with its own rows."""
    request_id: Mapped[str | None] = mapped_column(Text)
    traceparent: Mapped[str | None] = mapped_column(Text)
    origin_id: Mapped[UUID | None]
    """The job that it was made from, by hand. No foreign key, because retention may delete that job first."""
    batch_id: Mapped[UUID | None]
    """Its batch or chain. No foreign key: each start and end of a job would lock the row of the batch."""


class JobError(Base):
    """The error of one attempt. Insert-only."""

    __tablename__ = "job_errors"
    __growth__ = Growth("a failed attempt, with its trace", until="its job is deleted", row_bytes=240)
    __table_args__ = (Index(None, "job_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int] = mapped_column(SmallInteger)
    failed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    error: Mapped[str] = mapped_column(Text)
    trace: Mapped[str | None] = mapped_column(Text)


class JobQueue(Base):
    """The settings of a queue; a queue without a row has no limits."""

    __tablename__ = "job_queues"
    __growth__ = Growth("a queue that was ever paused or limited", until="never", row_bytes=220)

    name: Mapped[str] = mapped_column(KEY_TEXT, primary_key=True)
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None] = mapped_column(Text)
    """The id of the operator who paused it, or `shell` for a command; NULL if a release paused it that did not say."""
    max_running: Mapped[int | None]
    """How many jobs may run at once, over all workers."""


class JobCron(Base):
    """The last handled tick of each cron. Workers move it by compare-and-set, so that each tick fires once.

    Crons are code of workers. The columns that may be NULL are for others: workers write there what they have.
    """

    __tablename__ = "job_crons"
    __growth__ = Growth("a cron", until="never", row_bytes=400)

    name: Mapped[str] = mapped_column(KEY_TEXT, primary_key=True)
    last_tick_at: Mapped[datetime]
    done_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When a job of the cron last did its work, if its handler records that; else when the cron was first seen."""
    expression: Mapped[str | None] = mapped_column(Text)
    timezone: Mapped[str | None] = mapped_column(Text)
    queue: Mapped[str | None] = mapped_column(Text)
    kind: Mapped[str | None] = mapped_column(Text)
    next_ticks: Mapped[list[datetime] | None] = mapped_column(ARRAY(DateTime(timezone=True)))
    """The first three after `last_tick_at`, or after the cron was described."""
    last_job_id: Mapped[UUID | None]
    """Its newest job, which may have been deleted since."""
    run_requested_at: Mapped[datetime | None]
    """When an operator asked for a job besides the ticks; NULL once a worker has enqueued it."""
    seen_at: Mapped[datetime | None]
    """When a worker last had it; it stays when the cron is removed from the code."""
    applied: Mapped[Any | None] = mapped_column(JSONB)
    """The settings that its job applied when it last did its work, by name: seconds, null for ever, or true."""


class JobWorker(Base):
    """A worker process. It deletes its row when it stops; if it is killed, its `beat_at` stays."""

    __tablename__ = "job_workers"
    __growth__ = Growth("a worker process", until="it stops, or was silent for an hour", row_bytes=270)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int]
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text))
    concurrency: Mapped[int]
    """How many jobs it runs at once, per queue."""
    running: Mapped[int] = mapped_column(server_default="0")
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    beat_at: Mapped[datetime] = mapped_column(server_default=func.now())
    draining: Mapped[bool] = mapped_column(server_default=false())
    held_job_ids: Mapped[list[UUID]] = mapped_column("holding", ARRAY(Uuid), server_default="{}")
    """The jobs whose outcome it has yet to record; no relay claims them until `holds_until`."""
    holds_until: Mapped[datetime] = mapped_column(server_default=func.now())
    smtputf8: Mapped[bool | None]
    """Whether its mail server accepts non-ASCII addresses (RFC 6531); NULL while unknown."""
    version: Mapped[str | None] = mapped_column(Text)
    """The version of `app-worker` that runs there; NULL for releases that did not say."""
    loop_lag: Mapped[float | None]
    """The longest time, in seconds, for which its event loop was late within the last minute; NULL as above."""


class JobCancellation(Base):
    """A cancellation request: a row of its own, because the handler of the job may have locked the row of the job."""

    __tablename__ = "job_cancellations"
    __growth__ = Growth("a running job that is to be cancelled", until="its job is deleted", row_bytes=100)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
