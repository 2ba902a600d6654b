"""What became of an attempt."""

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from app_db.jobs.bounds import LONGEST_DELAY
from app_db.jobs.payload import UnknownPayload
from app_db.models import JobState
from app_db.outage import is_connection_lost
from app_db.texts import safe_repr
from app_worker.attempt import Attempt
from app_worker.context import Discard, Snooze
from app_worker.error_groups import as_one
from app_worker.mail_errors import MailUndeliverable
from app_worker.registry import DEFAULT_MAX_ATTEMPTS, Handler, default_backoff

log = structlog.get_logger(__name__)

NOW = timedelta(0)
NEWER_WORKER = timedelta(minutes=1)
"""How often a job that this code does not understand looks for a worker that does."""
MOMENT = timedelta(seconds=2)
MOST_DOUBLINGS = 5
"""A job that loses its connection again and again waits for a minute or so in the end."""


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


def judge(error: BaseException, attempt: Attempt, *, is_ours: bool = False, losses: int = 0) -> Verdict:
    """Return what the end of an attempt by `error` means.

    Only what the handler raised costs an attempt: no stop of the worker, no loss of the database, and no payload that
    a newer worker will understand. What costs nothing comes back at once only where the worker itself ends it.

    Args:
        error: what ended it.
        attempt: what ended.
        is_ours: whether the worker has asked for the end: it stops, or the job is lost or shall be cancelled.
        losses: how often in a row the job has lost its connection to Postgres here, before this time.
    """
    decisive = as_one(error)
    match decisive:
        case Snooze():
            return Verdict("snoozed", JobState.SCHEDULED, decisive.delay, costs_attempt=False)
        case Discard() | MailUndeliverable():  # guard: test_a_recipient_that_is_refused_for_good_is_not_tried_again
            return Verdict("discarded", JobState.DISCARDED, error=error)
        case NoHandler() | UnknownPayload() if not attempt.was_called:
            return Verdict("unknown", JobState.RETRYABLE, NEWER_WORKER, costs_attempt=False, error=error)
        case asyncio.CancelledError() if is_ours:
            return Verdict("given_back", JobState.AVAILABLE, NOW, costs_attempt=False)
        case _ if is_connection_lost(decisive):
            due_in = a_moment() * 2 ** min(max(0, losses - 1), MOST_DOUBLINGS)
            return Verdict("given_back", JobState.RETRYABLE, due_in, costs_attempt=False, error=error)
        case _:
            return _failed(error, attempt)


def never_started() -> Verdict:
    """Return what to make of a job whose start failed, or whose start's answer was lost."""
    return Verdict("given_back", JobState.AVAILABLE, a_moment(), costs_attempt=False)


def _failed(error: BaseException, attempt: Attempt) -> Verdict:
    assert attempt.job is not None, "what was not started cannot fail"
    handler = attempt.handler
    limit = attempt.job.max_attempts or (handler.max_attempts if handler else DEFAULT_MAX_ATTEMPTS)
    if attempt.job.attempt >= limit:
        return Verdict("discarded", JobState.DISCARDED, error=error)
    return Verdict("failed", JobState.RETRYABLE, _wait(error, attempt.job.attempt, handler), error=error)


def _wait(error: BaseException, number: int, handler: Handler | None) -> timedelta:
    """Return how long to wait after a failed attempt; a back-off that cannot say is named beside the error."""
    backoff = handler.backoff if handler else default_backoff
    try:
        wait: object = backoff(number)  # whatever it is that code of others returns
        if isinstance(wait, timedelta) and timedelta(0) <= wait <= LONGEST_DELAY:
            return wait
        complaint = f"it returned {safe_repr(wait)}, and not a timedelta from 0 to {LONGEST_DELAY.days} days"
    except BaseException as failure:  # whatever it is, the attempt has failed of something else
        complaint = safe_repr(failure)  # guard: test_a_back_off_that_fails_does_not_lose_the_attempt
    log.warning("backoff_failed", cause=complaint)
    error.add_note(f"Its back-off failed too, so the default one was taken: {complaint}")
    return default_backoff(number)


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
