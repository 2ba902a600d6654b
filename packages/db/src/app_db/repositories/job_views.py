"""Views of queues, workers and counts, for operators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

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
    beat_age: float
    """Seconds since its last heartbeat, by Postgres's clock."""
    is_alive: bool


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
    """Mean seconds of jobs in lease mode; a tx job has none, because its row is written before its handler runs."""


@dataclass(frozen=True, slots=True)
class JobStats:
    """Counts of jobs by state, for operators."""

    jobs: Sequence[JobCount]
    """The counts of open jobs, and of discarded jobs that retention still keeps."""
    finished: Sequence[FinishedCount]
    at_least: bool = False
    """Whether a count has reached its limit; means are of the counted jobs only."""
