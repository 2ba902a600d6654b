"""Puts the ends of attempts on record, and tells metrics, traces and log of them."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from app_db import Database
from app_db.jobs import ledger
from app_db.jobs.after_commit import notify_after_commit
from app_db.models import JobState
from app_db.outage import is_outage
from app_runtime.texts import safe_repr
from app_worker.attempt import Attempt
from app_worker.history import kept, record
from app_worker.metrics import Metrics
from app_worker.outcome import NOW, Outcome, outcome_of

log = structlog.get_logger(__name__)

PAUSE = timedelta(milliseconds=500)


@dataclass(slots=True, eq=False)
class Recorder:
    """Writes down what became of attempts."""

    database: Database
    lease: timedelta
    metrics: Metrics

    async def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """Put the end of an attempt on record, again and again while the database is away.

        When the lease is over it is given up: then the job comes back by itself. What Postgres does not take (JSON may
        hold a NUL, jsonb may not) makes it a failed attempt without its progress.
        """
        try:
            async with asyncio.timeout(self.lease.total_seconds()):
                while not await self._try_to_settle(attempt, outcome):  # noqa: ASYNC110  # it is another process
                    await asyncio.sleep(PAUSE.total_seconds())
        except TimeoutError:
            log.warning("job_outcome_not_recorded")
            self.ended(attempt, "given_back")
        except Exception as failure:
            if attempt.job is None or (outcome.error is not None and attempt.progress is None):
                log.warning("job_outcome_not_recorded", exc_info=failure)  # not even its failure: see the lease
                return
            attempt.progress = None  # guard: test_an_error_is_on_record_although_the_last_progress_cannot_be
            await self.settle(attempt, outcome if outcome.error else outcome_of(failure, attempt))

    async def _try_to_settle(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Return False if the database did not answer in the time that a request would have."""
        deadline = asyncio.timeout(
            self.database.settings.request_timeout.total_seconds()
        )  # guard: test_an_outcome_is_recorded_although_its_connection_fell_silent
        try:
            async with deadline:
                state = await self._finish(attempt, outcome)
        except Exception as failure:
            if deadline.expired() or is_outage(failure):
                return False
            raise
        if state is None:
            self.ended(attempt, "fenced")  # another delivery has the job: nothing was written
        else:
            name = {JobState.CANCELLED: "cancelled", JobState.COMPLETED: "completed"}.get(state, outcome.name)
            self.ended(attempt, name, error=outcome.error)
        return True

    async def _finish(self, attempt: Attempt, outcome: Outcome) -> JobState | None:
        delivery, progress = attempt.delivery, kept(attempt.progress)
        if outcome.state is JobState.COMPLETED and not attempt.completed.is_set():
            held = await ledger.complete(self.database, delivery, result=outcome.result, progress=progress)
            return JobState.COMPLETED if held else None
        async with self.database.sessions.begin() as session:
            if attempt.completed.is_set():
                if outcome.result is not None:
                    await ledger.set_result(session, delivery, outcome.result)
                return JobState.COMPLETED
            state = await ledger.finish(
                session,
                delivery,
                state=outcome.state,
                costs_attempt=outcome.costs_attempt,
                due_in=outcome.due_in,
                progress=progress,
            )
            if state is not None and outcome.error is not None and attempt.job is not None:
                await record(session, delivery, attempt=attempt.job.attempt, error=outcome.error)
            if outcome.due_in == NOW:
                notify_after_commit(session)
            return state

    def started(self, attempt: Attempt) -> None:
        """Count a start."""
        with harmless("start_not_counted"):
            self.metrics.started(attempt.kind)

    def ended(self, attempt: Attempt, outcome: str, *, error: BaseException | None = None) -> None:
        """Tell of an end that is on record: whatever fails here changes it no more."""
        with harmless("outcome_not_counted"):
            if attempt.job is not None:
                self.metrics.ended(attempt.kind, outcome, time.monotonic() - attempt.began)
        with harmless("outcome_not_traced"):
            if attempt.told is not None:
                attempt.told(outcome, error)
        with harmless("outcome_not_logged"):
            # A line for each job that went well would cost more than the ledger does, unless it is asked for.
            say = log.debug if outcome == "completed" else log.info if error is None else log.warning
            say("job_ended", outcome=outcome, attempt=attempt.job and attempt.job.attempt, exc_info=error)


class harmless:  # noqa: N801  # a class, and no generator, since each job goes through it
    """Let what fails in the block be a line in the log at most: the attempt is more than what is told of it."""

    __slots__ = ("_event",)

    def __init__(self, event: str) -> None:
        self._event = event

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        with suppress(Exception):  # the log itself may be what failed
            log.warning(self._event, cause=safe_repr(error))
        return True
