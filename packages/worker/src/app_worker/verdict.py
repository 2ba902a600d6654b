"""What became of an attempt."""

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app_db.jobs.ledger import StartedJob
from app_db.jobs.payload import UnknownPayload
from app_db.models import JobState
from app_db.outage import is_connection_lost
from app_worker.context import Discard, Snooze
from app_worker.registry import DEFAULT_MAX_ATTEMPTS, Handler, default_backoff

NOW = timedelta(0)
NEWER_WORKER = timedelta(minutes=1)
"""How often a job that this code does not understand looks for a worker that does."""
MOMENT = timedelta(seconds=2)


class NoHandler(Exception):
    """This worker has no handler for the kind of the job: is it older than who enqueued it?"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the ledger shall know an attempt."""

    outcome: str
    """One of `metrics.OUTCOMES`."""
    state: JobState
    due_in: timedelta | None = None
    costs_attempt: bool = True
    result: Any | None = None  # Any: JSON
    error: BaseException | None = None


def judge(error: BaseException, started: StartedJob, handler: Handler | None) -> Verdict:
    """Return what the end of an attempt by `error` means.

    Only what the handler raised costs an attempt: no stop of the worker, no loss of the database, and no payload that
    a newer worker will understand.
    """
    match error:
        case Snooze():
            return Verdict("snoozed", JobState.SCHEDULED, error.delay, costs_attempt=False)
        case Discard():
            return Verdict("discarded", JobState.DISCARDED, error=error)
        case NoHandler() | UnknownPayload():
            return Verdict("unknown", JobState.RETRYABLE, NEWER_WORKER, costs_attempt=False, error=error)
        case asyncio.CancelledError() if is_cancelled():
            return Verdict("given_back", JobState.AVAILABLE, NOW, costs_attempt=False)
        case _ if is_connection_lost(error):
            return Verdict("given_back", JobState.RETRYABLE, a_moment(), costs_attempt=False, error=error)
        case _:
            return _failed(error, started, handler)


def never_started() -> Verdict:
    """Return what to make of a job whose start failed, or whose start's answer was lost."""
    return Verdict("given_back", JobState.AVAILABLE, a_moment(), costs_attempt=False)


def _failed(error: BaseException, started: StartedJob, handler: Handler | None) -> Verdict:
    limit = started.max_attempts or (handler.max_attempts if handler else DEFAULT_MAX_ATTEMPTS)
    if started.attempt >= limit:
        return Verdict("discarded", JobState.DISCARDED, error=error)
    backoff = handler.backoff if handler else default_backoff
    return Verdict("failed", JobState.RETRYABLE, backoff(started.attempt), error=error)


def a_moment() -> timedelta:
    """Return one to three seconds: so that those who wait for the same do not come back together."""
    return MOMENT * random.uniform(0.5, 1.5)  # noqa: S311  # jitter, not a secret


def this_task() -> asyncio.Task[Any]:
    """Return the task that runs the job."""
    task = asyncio.current_task()
    assert task is not None, "jobs run in tasks"
    return task


def is_cancelled() -> bool:
    """Whether somebody asked this task to end: the worker that stops, or its heartbeat."""
    return this_task().cancelling() > 0
