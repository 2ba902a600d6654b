"""What commands answer: one document each, as JSON with names that stay, or as text for people."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from textwrap import indent
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator

from app_db.jobs.control import Action
from app_db.models import OPEN_STATES, JobState
from app_db.repositories.job_lists import MOST_LOOKED_AT
from app_db.repositories.job_views import FinishedCount, JobCount, QueueOverview, WorkerOverview
from app_db.types import aware
from app_worker.tables import printable, sheet, table

OPEN: Final = tuple(state for state in JobState if state in OPEN_STATES)
"""In the order in which a job goes through them: these are columns."""
PAST: Final = {Action.RETRY: "retried", Action.CANCEL: "cancelled", Action.DISCARD: "discarded"}


class Document(BaseModel, ABC, frozen=True, from_attributes=True):
    """The answer of a command."""

    @abstractmethod
    def text(self) -> str:
        """Return it for people."""


class JobRow(BaseModel, frozen=True, from_attributes=True):
    """A job in a list."""

    id: UUID
    kind: str
    queue: str
    state: JobState
    priority: int
    attempt: int
    max_attempts: int | None
    owner_id: UUID | None
    created_at: datetime
    run_at: Annotated[datetime, AfterValidator(aware)]
    started_at: datetime | None
    finished_at: datetime | None
    progress: Any | None  # Any: JSON


class JobList(Document, frozen=True):
    """One page of jobs, newest first."""

    items: list[JobRow]
    next: Annotated[str | None, BeforeValidator(lambda cursor: cursor and str(cursor))]
    """The cursor of the next page, null on the last."""
    partial: bool = False
    """Whether it ended before it was full, because enough jobs were looked at that do not match."""

    def text(self) -> str:
        """Return a table, and below it how to get the next page."""
        headers = ("ID", "KIND", "QUEUE", "STATE", "ATTEMPT", "RUN AT (UTC)", "FINISHED AT")
        rows = [
            (job.id, job.kind, job.queue, job.state, job.attempt, job.run_at, job.finished_at) for job in self.items
        ]
        more = f"more: --after {self.next}\n" if self.next else ""
        if self.partial:
            more = f"that is what was found among {MOST_LOOKED_AT:,} jobs; {more}"
        return table(headers, rows) + more


class FailedAttempt(BaseModel, frozen=True, from_attributes=True):
    """What went wrong in one attempt."""

    attempt: int
    failed_at: datetime
    error: str
    trace: str | None


class JobDetail(JobRow, Document, frozen=True):
    """All that is known of one job."""

    payload: dict[str, Any]  # Any: JSON
    payload_version: int
    result: Any | None  # Any: JSON
    unique_key: str | None
    redeliveries: int
    crashes: int
    worker_id: UUID | None
    request_id: str | None
    traceparent: str | None
    cancel_requested: bool
    """Whether it has been asked to end, and has not yet."""
    errors: list[FailedAttempt]
    """The last first."""

    def text(self) -> str:
        """Return a line for each of its columns, then its failed attempts with their traces."""
        columns = [(name, value) for name, value in self if name != "errors"]
        return sheet(columns) + "".join(map(_attempt, self.errors))


class Queues(Document, frozen=True):
    """Queues and what is set for them."""

    queues: list[QueueOverview]

    def text(self) -> str:
        """Return a table of the queues."""
        headers = ("QUEUE", "PAUSED AT (UTC)", "LIMIT", "WORKERS", "OLDEST DUE (S)", *map(str.upper, OPEN))
        rows = [
            (
                queue.name,
                queue.paused_at,
                queue.max_running,
                queue.workers,
                queue.oldest_due_age,
                *_counts(queue.counts),
            )
            for queue in self.queues
        ]
        return table(headers, rows)


class Stats(Queues, frozen=True):
    """Queues, workers and counts."""

    workers: list[WorkerOverview]
    jobs: list[JobCount]
    """Open ones and discarded ones."""
    finished: list[FinishedCount]
    """In the last hour."""

    def text(self) -> str:
        """Return four tables."""
        workers = [
            (
                worker.id, worker.host, worker.pid, worker.queues, worker.running, worker.concurrency, worker.draining,
                worker.started_at, worker.beat_age, worker.is_alive,
            )
            for worker in self.workers
        ]  # fmt: skip
        worker_headers = ("WORKER", "HOST", "PID", "QUEUES", "RUNNING", "SLOTS", "DRAINING", "STARTED AT (UTC)",
                          "LAST BEAT (S)", "ALIVE")  # fmt: skip
        jobs = [(count.queue, count.kind, count.state, count.count) for count in self.jobs]
        finished = [(count.kind, count.state, count.count, count.mean_run_time) for count in self.finished]
        return "\n".join([
            f"Queues\n{super().text()}",
            f"Workers\n{table(worker_headers, workers)}",
            f"Open and discarded jobs\n{table(('QUEUE', 'KIND', 'STATE', 'COUNT'), jobs)}",
            f"Ended in the last hour\n{table(('KIND', 'STATE', 'COUNT', 'MEAN RUN TIME (S)'), finished)}",
        ])  # fmt: skip


class Acted(Document, frozen=True):
    """What was done, and to how many jobs."""

    action: Action
    count: int

    def text(self) -> str:
        """Return one line."""
        return f"{PAST[self.action]}: {_jobs(self.count)}\n"


class Drained(Document, frozen=True):
    """How many runs ended in which state."""

    states: dict[JobState, int]

    def text(self) -> str:
        """Return one line for each state."""
        return "".join(f"{state}: {_jobs(count)}\n" for state, count in self.states.items()) or "nothing was due\n"


class Enqueued(Document, frozen=True):
    """The job that is there now; one like it may have been there before."""

    id: UUID
    kind: str
    queue: str

    def text(self) -> str:
        """Return one line."""
        return f"enqueued: {self.id}\n"


class CronRow(BaseModel, frozen=True, from_attributes=True):
    """A cron in a list."""

    name: str
    expression: str
    timezone: str
    queue: str
    last_tick_at: datetime | None
    """Up to when its ticks have been dealt with; null before a worker has seen it."""
    next_tick_at: datetime


class Crons(Document, frozen=True):
    """What runs at which time."""

    crons: list[CronRow]

    def text(self) -> str:
        """Return a table."""
        headers = ("CRON", "EXPRESSION", "TIME ZONE", "QUEUE", "LAST TICK (UTC)", "NEXT TICK (UTC)")
        return table(headers, [[value for _, value in row] for row in self.crons])


def _counts(counts: Mapping[JobState, int]) -> list[int]:
    return [counts.get(state, 0) for state in OPEN]


def _attempt(failed: FailedAttempt) -> str:
    trace = indent(printable(failed.trace or failed.error), "  ")
    return f"\nattempt {failed.attempt} failed at {failed.failed_at:%Y-%m-%d %H:%M:%S}\n{trace}\n"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
