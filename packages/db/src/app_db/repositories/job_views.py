"""What operators are shown of queues, workers and counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app_db.models import JobState


@dataclass(frozen=True, slots=True)
class QueueOverview:
    """How a queue is, and what an operator has set for it."""

    name: str
    paused_at: datetime | None
    max_running: int | None
    workers: int
    """Those that serve it and are alive."""
    counts: Mapping[JobState, int]
    """Its open jobs; a state without jobs is left out."""
    oldest_due_age: float | None
    """Seconds since the job that waits longest became due; None when nothing is due."""
    at_least: bool = False
    """Whether there may be more than `counts` says: it was counted up to a limit."""


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
    """Seconds since its last sign of life, by Postgres's clock."""
    is_alive: bool


@dataclass(frozen=True, slots=True)
class JobCount:
    """How many jobs of one kind are in one state, in one queue."""

    queue: str
    kind: str
    state: JobState
    count: int


@dataclass(frozen=True, slots=True)
class FinishedCount:
    """How many jobs of one kind have ended in one way lately."""

    kind: str
    state: JobState
    count: int
    mean_run_time: float | None
    """Seconds, of those that ran in lease mode; the row of a tx job is written before its handler runs."""


@dataclass(frozen=True, slots=True)
class JobStats:
    """The first thing that an operator looks at."""

    jobs: Sequence[JobCount]
    """All that are open, and those that were discarded and are still on record."""
    finished: Sequence[FinishedCount]
    at_least: bool = False
    """Whether there may be more: no count goes beyond its limit, nor does a mean take in more."""
