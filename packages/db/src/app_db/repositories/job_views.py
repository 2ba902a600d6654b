"""Views of queues, workers, crons and counts, for operators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app_db.jobs.timetables import CatchUp
from app_db.models import JobState


@dataclass(frozen=True, slots=True)
class QueueOverview:
    """A queue with its settings and figures."""

    name: str
    paused_at: datetime | None
    max_running: int | None
    workers: int
    """The number of live workers that serve it."""
    counts: Mapping[JobState, int]
    """The number of open jobs by state; states without jobs are left out."""
    oldest_due_age: float | None
    """Seconds since the oldest due job became due; None if no job is due."""
    at_least: bool = False
    """Whether a count in `counts` has reached its limit, so that there may be more jobs."""
    paused_by: str | None = None
    """The id of an account, or `shell`; None if a release paused it that did not say."""


@dataclass(frozen=True, slots=True)
class WorkerOverview:
    """A worker process."""

    id: UUID
    host: str
    pid: int
    queues: Sequence[str]
    concurrency: int
    running: int
    draining: bool
    started_at: datetime
    beat_at: datetime
    held_job_ids: Sequence[UUID]
    """The jobs that it had in hand at its last heartbeat."""
    version: str | None
    """Of `app-worker`; None for releases that did not say, as below."""
    loop_lag: float | None
    """The longest time, in seconds, for which its event loop was late within a minute."""
    beat_age: float
    """Seconds since its last heartbeat, by Postgres's clock."""
    is_alive: bool


@dataclass(frozen=True, slots=True)
class ScheduleOverview:
    """What only a cron in the table has: the rest of what it enqueues, and who has done what to it."""

    payload: Mapping[str, Any]  # Any: JSON
    priority: int
    catch_up: CatchUp
    overlap: bool
    version: int
    paused_at: datetime | None
    paused_by: str | None
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str
    problem: str | None
    """Why a worker could not enqueue the job of its due tick."""
    is_shadowed: bool
    """Whether a cron in code has its name: then it enqueues nothing."""


@dataclass(frozen=True, slots=True)
class CronOverview:
    """A cron as workers have described it, or as the table has it; None stands for what a release did not say."""

    name: str
    expression: str | None
    timezone: str | None
    queue: str | None
    kind: str | None
    last_tick_at: datetime
    """The newest tick that was handled; before the first one, when a worker first had the cron."""
    next_ticks: Sequence[datetime]
    last_job_id: UUID | None
    """Its newest job, which may have been deleted since."""
    run_requested_at: datetime | None
    seen_at: datetime | None
    applied: Mapping[str, float | bool | None] | None
    """The settings that its job last applied: seconds, None for ever, or a choice."""
    is_served: bool
    """Whether a worker has had it lately: else it was removed from the code, or no worker runs."""
    schedule: ScheduleOverview | None = None
    """None for a cron in code."""

    @property
    def has_ticked(self) -> bool:
        """Whether `last_tick_at` is a tick that enqueued a job.

        Ticks are whole seconds. Times at which a worker first had the cron, or passed over missed ticks, are not.
        """
        return self.last_tick_at.microsecond == 0


@dataclass(frozen=True, slots=True)
class JobBrief:
    """A job without its payload, result and errors, for lists that name it."""

    id: UUID
    kind: str
    state: JobState
    worker_id: UUID | None
    created_at: datetime
    started_at: datetime | None
    progress: Any | None  # Any: JSON


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job as lists and streams show it: without its payload, result and errors."""

    id: UUID
    kind: str
    queue: str
    state: JobState
    owner_id: UUID | None
    attempt: int
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    batch_id: UUID | None
    progress: Any | None  # Any: JSON


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that runs, for a list of what runs now."""

    id: UUID
    kind: str
    attempt: int
    started_at: datetime | None
    progress: Any | None  # Any: JSON of the handler's own


@dataclass(frozen=True, slots=True)
class SystemOverview:
    """What waits, who works, and what runs."""

    queues: Sequence[QueueOverview]
    workers: Sequence[WorkerOverview]
    running: Sequence[RunningJob]


@dataclass(frozen=True, slots=True)
class JobCount:
    """The number of jobs of one kind in one state and queue."""

    queue: str
    kind: str
    state: JobState
    count: int


@dataclass(frozen=True, slots=True)
class FinishedCount:
    """The number of jobs of one kind that have ended in one state lately."""

    kind: str
    state: JobState
    count: int
    mean_run_time: float | None
    """Mean seconds of jobs in lease mode, the newest `job_counts.MEAN_OF` of each queue; a tx job has none, because its
    row is written before its handler runs."""


@dataclass(frozen=True, slots=True)
class JobStats:
    """Counts of jobs by state, for operators."""

    jobs: Sequence[JobCount]
    """The counts of open jobs, and of discarded jobs that retention still keeps."""
    finished: Sequence[FinishedCount]
    at_least: bool = False
    """Whether a count has reached its limit."""
