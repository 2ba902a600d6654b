"""The output of commands: JSON whose names are stable, or text for people."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from json import dumps
from textwrap import indent
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator

from app_db.jobs.control import Action
from app_db.models import OPEN_STATES, JobState
from app_db.repositories.job_views import FinishedCount, JobCount, QueueOverview, WorkerOverview
from app_db.repositories.walks import MOST_LOOKED_AT
from app_db.types import aware

OPEN: Final = tuple(state for state in JobState if state in OPEN_STATES)
"""The columns of a table of queues, in the order in which a job passes through the states."""
GAP: Final = "  "
"""Between two columns."""
PAST: Final = {
    Action.RETRY: "retried",
    Action.CANCEL: "cancelled",
    Action.DISCARD: "discarded",
    Action.DELETE: "deleted",
}


class Output(BaseModel, ABC, frozen=True, from_attributes=True):
    """The output of a command."""

    @abstractmethod
    def text(self) -> str:
        """Return the output as text for people."""


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
    batch_id: UUID | None
    progress: Any | None  # Any: JSON


class JobList(Output, frozen=True):
    """One page of jobs, newest first."""

    items: list[JobRow]
    next: Annotated[str | None, BeforeValidator(lambda cursor: cursor and str(cursor))]
    """The cursor of the next page, null on the last."""
    partial: bool = False
    """Whether the page is not full because the search stopped after many jobs that do not match."""

    def text(self) -> str:
        """Return a table, and below it how to get the next page."""
        headers = ("ID", "KIND", "QUEUE", "STATE", "ATTEMPT", "RUN AT (UTC)", "FINISHED AT")
        rows = [
            (job.id, job.kind, job.queue, job.state, job.attempt, job.run_at, job.finished_at) for job in self.items
        ]
        more = f"more: --after {self.next}\n" if self.next else ""
        if self.partial:
            more = f"found among the {MOST_LOOKED_AT:,} jobs that were searched; {more}"
        return table(headers, rows) + more


class FailedAttempt(BaseModel, frozen=True, from_attributes=True):
    """An attempt that failed."""

    attempt: int
    failed_at: datetime
    error: str
    trace: str | None


class JobDetail(JobRow, Output, frozen=True):
    """Everything the ledger has about one job."""

    payload: dict[str, Any]  # Any: JSON
    payload_version: int
    result: Any | None  # Any: JSON
    steps: list[dict[str, Any]] | None  # Any: JSON
    """What its attempts have committed: name and result of each."""
    cursor: Any | None  # Any: JSON
    unique_key: str | None
    redeliveries: int
    crashes: int
    worker_id: UUID | None
    request_id: str | None
    traceparent: str | None
    origin_id: UUID | None
    """The job that it was made from, by running that again."""
    origin_deleted: bool
    """Whether that job has been deleted since."""
    reruns: list[UUID]
    """The jobs that were made from it: the newest first, up to twenty."""
    cancel_requested: bool
    """Whether the job has a cancellation request, and has not ended yet."""
    errors: list[FailedAttempt]
    """The newest first."""

    def text(self) -> str:
        """Return a line for each of its columns, then its failed attempts with their traces."""
        columns = [(name, value) for name, value in self if name != "errors"]
        return sheet(columns) + "".join(map(_attempt, self.errors))


class Queues(Output, frozen=True):
    """Queues with their settings."""

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
    """Counts of open and of discarded jobs."""
    finished: list[FinishedCount]
    """Counts of jobs that ended in the last hour."""

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


class Acted(Output, frozen=True):
    """The action of a command, and the number of its jobs."""

    action: Action
    count: int

    def text(self) -> str:
        """Return one line."""
        return f"{PAST[self.action]}: {_jobs(self.count)}\n"


class Drained(Output, frozen=True):
    """How many runs ended in each state."""

    states: dict[JobState, int]

    def text(self) -> str:
        """Return one line for each state."""
        return "".join(f"{state}: {_jobs(count)}\n" for state, count in self.states.items()) or "nothing was due\n"


class Enqueued(Output, frozen=True):
    """The enqueued job, or a unique job that existed already."""

    id: UUID
    kind: str
    queue: str

    def text(self) -> str:
        """Return one line."""
        return f"enqueued: {self.id}\n"


def _counts(counts: Mapping[JobState, int]) -> list[int]:
    return [counts.get(state, 0) for state in OPEN]


def _attempt(failed: FailedAttempt) -> str:
    trace = indent(printable(failed.trace or failed.error), "  ")
    return f"\nattempt {failed.attempt} failed at {failed.failed_at:%Y-%m-%d %H:%M:%S}\n{trace}\n"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:  # Any: as in `cell`
    """Return the rows below their headers, or the line `none`. Numbers are aligned right."""
    rows = list(rows)
    if not rows:
        return "none\n"
    numeric = [all(isinstance(value, int | float | None) for value in column) for column in zip(*rows, strict=True)]
    lines = [list(headers), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(_line(line, widths, numeric) for line in lines)


def sheet(entries: Iterable[tuple[str, Any]]) -> str:  # Any: as in `cell`
    """Return one line for each entry, its name and its value."""
    shown = [(name, cell(value)) for name, value in entries]
    width = max(len(name) for name, _ in shown)
    return "".join(f"{name:<{width}}{GAP}{value}\n" for name, value in shown)


def cell(value: Any) -> str:  # Any: each type below
    """Return a value as people read it: times in UTC to the second, objects as JSON, nothing as a dash."""
    match value:
        case None:
            shown = "-"
        case bool():
            shown = "yes" if value else "no"
        case datetime():
            shown = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        case float():
            shown = f"{value:.1f}"
        case dict():
            shown = dumps(value, ensure_ascii=False)
        case list() | tuple():
            shown = ", ".join(map(cell, value)) or "-"
        case _:
            shown = str(value)
    return printable(shown).replace("\n", "\\n")


def printable(text: str) -> str:
    """Return a text without control characters, which a terminal would obey; line breaks and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text)


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    aligned = (
        text.rjust(width) if right else text.ljust(width)
        for text, width, right in zip(cells, widths, numeric, strict=True)
    )
    return GAP.join(aligned).rstrip() + "\n"
