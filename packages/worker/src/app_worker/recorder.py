"""The recorder writes the outcomes of attempts to the ledger, then to metrics, traces and log."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from app_db import Database
from app_db.jobs import ledger
from app_db.jobs.after_commit import notify_after_commit
from app_db.jobs.leased import LeasedJobs
from app_db.models import JobState
from app_db.outage import is_outage
from app_runtime.texts import safe_repr
from app_worker.attempt import Attempt
from app_worker.history import line_of, record, truncated
from app_worker.metrics import Metrics
from app_worker.outcome import NOW, Outcome, outcome_of

log = structlog.get_logger(__name__)

PAUSE = timedelta(milliseconds=500)


@dataclass(slots=True, eq=False)
class Recorder:
    """Records the outcomes of attempts."""

    database: Database
    lease: timedelta
    metrics: Metrics
    leased: LeasedJobs

    async def finish(self, attempt: Attempt, outcome: Outcome) -> None:
        """Record the outcome of an attempt; retry while the database is away.

        When the lease has expired the recorder gives up: a relay claims the job again. If Postgres refuses the
        result or the progress (JSON may hold U+0000, jsonb may not), the attempt has failed, and its progress is lost.
        """
        try:
            async with asyncio.timeout(self.lease.total_seconds()):
                while not await self._try_to_finish(attempt, outcome):  # noqa: ASYNC110  # Postgres is another process
                    await asyncio.sleep(PAUSE.total_seconds())
        except TimeoutError:
            log.warning("job_outcome_not_recorded")
            self.report_finish(attempt, "given_back")
        except Exception as failure:
            if attempt.job is None or (outcome.error is not None and attempt.progress is None):
                log.warning("job_outcome_not_recorded", exc_info=failure)  # the end of its lease makes the job due
                return
            attempt.progress = None  # guard: test_an_error_is_on_record_although_the_last_progress_cannot_be
            await self.finish(attempt, outcome if outcome.error else outcome_of(failure, attempt))

    async def _try_to_finish(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Return False if the database did not answer within the `request_timeout`."""
        deadline = asyncio.timeout(
            self.database.settings.request_timeout.total_seconds()
        )  # guard: test_an_outcome_is_recorded_although_its_connection_fell_silent
        try:
            async with deadline:
                state = await self._finish_in_ledger(attempt, outcome)
        except Exception as failure:
            if deadline.expired() or is_outage(failure):
                return False
            raise
        if state is None:
            self.report_finish(attempt, "fenced")  # another delivery holds the job: nothing was written
        else:
            name = {JobState.CANCELLED: "cancelled", JobState.COMPLETED: "completed"}.get(state, outcome.name)
            self.report_finish(attempt, name, error=outcome.error)
        return True

    async def _finish_in_ledger(self, attempt: Attempt, outcome: Outcome) -> JobState | None:
        delivery, progress = attempt.delivery, truncated(attempt.progress)
        completes = outcome.state is JobState.COMPLETED and not attempt.completed.is_set()
        if completes and await self.leased.complete(delivery, result=outcome.result, progress=progress):
            return JobState.COMPLETED
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
                result=outcome.result,
                progress=progress,
            )
            if state is not None and outcome.error is not None and attempt.job is not None:
                number, hides = attempt.job.attempt, attempt.is_encrypted
                await record(session, delivery, attempt=number, error=outcome.error, is_encrypted=hides)
            if outcome.due_in == NOW:
                notify_after_commit(session)
            return state

    def report_start(self, attempt: Attempt) -> None:
        """Count the start of an attempt."""
        with log_failure("start_not_counted"):
            self.metrics.started(attempt.kind)

    def report_finish(self, attempt: Attempt, outcome: str, *, error: BaseException | None = None) -> None:
        """Report a recorded outcome to metrics, trace and log; an error in here cannot change the outcome."""
        with log_failure("outcome_not_counted"):
            if attempt.job is not None:
                self.metrics.finished(attempt.kind, outcome, time.monotonic() - attempt.began)
        with log_failure("outcome_not_traced"):
            if attempt.trace_outcome is not None:
                attempt.trace_outcome(outcome, error)
        with log_failure("outcome_not_logged"):
            # A log line for each completed job would cost more than the ledger, so it needs the level DEBUG.
            say = log.debug if outcome == "completed" else log.info if error is None else log.warning
            about: dict[str, Any] = {"exc_info": error}  # Any: as structlog takes it
            if error is not None and attempt.is_encrypted:
                about = {"error": line_of(error, is_encrypted=True)}
            say("job_ended", outcome=outcome, attempt=attempt.job and attempt.job.attempt, **about)


class log_failure:  # noqa: N801  # a class is faster than a generator, and each job enters it
    """Log an exception of the block instead of raising it: a failed report must not fail the attempt."""

    __slots__ = ("_event",)

    def __init__(self, event: str) -> None:
        self._event = event

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        with suppress(Exception):  # the log itself may have failed
            log.warning(self._event, cause=safe_repr(error))
        return True
