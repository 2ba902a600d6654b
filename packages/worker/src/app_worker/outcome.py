"""Decides the outcome of an attempt, which the ledger then records."""

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
from app_runtime.texts import safe_repr
from app_worker.attempt import Attempt
from app_worker.context import Discard, Snooze
from app_worker.error_groups import as_one
from app_worker.mail_errors import MailUndeliverable
from app_worker.registry import DEFAULT_MAX_ATTEMPTS, Handler, default_backoff

log = structlog.get_logger(__name__)

NOW = timedelta(0)
NEWER_WORKER = timedelta(minutes=1)
"""How long a job waits before it is delivered again when this release cannot read it: a newer worker may take it."""
SHORT_WAIT = timedelta(seconds=2)
MOST_DOUBLINGS = 5
"""Limit of the doublings: a job that keeps losing its connection waits about a minute between two attempts."""


class NoHandler(Exception):
    """This worker has no handler for the kind of the job: the process that enqueued it may run a newer release."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The record of an attempt for the ledger."""

    name: str
    """One of `metrics.OUTCOMES`."""
    state: JobState
    due_in: timedelta | None = None
    costs_attempt: bool = True
    result: Any | None = None  # Any: JSON
    error: BaseException | None = None


def outcome_of(error: BaseException, attempt: Attempt, *, is_ours: bool = False, losses: int = 0) -> Outcome:
    """Return the outcome of an attempt that `error` ended.

    Only an exception of the handler costs an attempt. A stop of the worker, a lost connection to Postgres, and a
    payload that only a newer worker can read cost none. Of these, only a job that the worker itself ended is due again
    at once.

    Args:
        error: the exception that ended the attempt.
        attempt: the attempt.
        is_ours: whether the worker cancelled the attempt: it stops, has lost the job, or was asked to cancel it.
        losses: how often in a row the job had lost its connection to Postgres in this process before.
    """
    decisive = as_one(error)
    match decisive:
        case Snooze():
            return Outcome("snoozed", JobState.SCHEDULED, decisive.delay, costs_attempt=False)
        case Discard() | MailUndeliverable():  # guard: test_a_recipient_that_is_refused_for_good_is_not_tried_again
            return Outcome("discarded", JobState.DISCARDED, error=error)
        case NoHandler() | UnknownPayload() if not attempt.was_called:
            return Outcome("unknown", JobState.RETRYABLE, NEWER_WORKER, costs_attempt=False, error=error)
        case asyncio.CancelledError() if is_ours:
            return Outcome("given_back", JobState.AVAILABLE, NOW, costs_attempt=False)
        case _ if is_connection_lost(decisive):
            due_in = short_wait() * 2 ** min(max(0, losses - 1), MOST_DOUBLINGS)
            return Outcome("given_back", JobState.RETRYABLE, due_in, costs_attempt=False, error=error)
        case _:
            return _failed(error, attempt)


def never_started() -> Outcome:
    """Return the outcome of a job whose start failed, or for whose start Postgres sent no reply."""
    return Outcome("given_back", JobState.AVAILABLE, short_wait(), costs_attempt=False)


def _failed(error: BaseException, attempt: Attempt) -> Outcome:
    assert attempt.job is not None, "only a started job can fail"
    handler = attempt.handler
    limit = attempt.job.max_attempts or (handler.max_attempts if handler else DEFAULT_MAX_ATTEMPTS)
    if attempt.job.attempt >= limit:
        return Outcome("discarded", JobState.DISCARDED, error=error)
    return Outcome("failed", JobState.RETRYABLE, _wait(error, attempt.job.attempt, handler), error=error)


def _wait(error: BaseException, number: int, handler: Handler | None) -> timedelta:
    """Return how long to wait after a failed attempt; if the back-off itself fails, add a note to the error."""
    backoff = handler.backoff if handler else default_backoff
    try:
        wait: object = backoff(number)  # a handler's own function may return anything
        if isinstance(wait, timedelta) and timedelta(0) <= wait <= LONGEST_DELAY:
            return wait
        complaint = f"it returned {safe_repr(wait)}, and not a timedelta from 0 to {LONGEST_DELAY.days} days"
    except BaseException as failure:  # the attempt ends with its own error, not with that of the back-off
        complaint = safe_repr(failure)  # guard: test_a_back_off_that_fails_does_not_lose_the_attempt
    log.warning("backoff_failed", cause=complaint)
    error.add_note(f"The back-off failed too, so the default one was used: {complaint}")
    return default_backoff(number)


def short_wait() -> timedelta:
    """Return one to three seconds, at random: jobs that wait for the same server do not come back together."""
    return SHORT_WAIT * random.uniform(0.5, 1.5)  # noqa: S311  # jitter, not a secret


def this_task() -> asyncio.Task[Any]:
    """Return the current task, which runs the job."""
    task = asyncio.current_task()
    assert task is not None, "jobs run in tasks"
    return task


def is_cancelled() -> bool:
    """Whether the heartbeat, or the stop of the worker, has cancelled this task."""
    return this_task().cancelling() > 0
