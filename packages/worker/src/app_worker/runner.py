"""Runs one delivery of one job. The edge of a job: nothing else here commits."""

import asyncio
import traceback
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from app_db import Database, Session
from app_db.jobs import ledger
from app_db.jobs.ledger import Delivery, StartedJob
from app_db.models import JobState
from app_db.outage import is_outage
from app_worker.context import Fenced, JobContext
from app_worker.mail import Mails
from app_worker.registry import DEFAULT_MAX_ATTEMPTS, Handler, Mode, Registry, default_backoff

log = structlog.get_logger(__name__)

NOW = timedelta(0)


class NoHandler(Exception):
    """This worker has no handler for the kind of the job: is it older than who enqueued it?"""


@dataclass(frozen=True, slots=True)
class Runner:
    """Takes deliveries to their end: completed, to be retried, discarded, or given back."""

    database: Database
    registry: Registry
    mails: Mails
    worker_id: UUID
    lease: timedelta
    held: dict[Delivery, asyncio.Task[Any]]
    """The deliveries in lease mode that run now, for the heartbeat."""

    async def run(self, delivery: Delivery) -> None:
        """Run the job unless this delivery is stale. Whatever goes wrong is on record afterwards; nothing is raised.

        Raises:
            asyncio.CancelledError: after the job was given back, when the worker stops.
        """
        started: StartedJob | None = None
        try:
            async with self.database.sessions() as session:
                started = await ledger.start(
                    session,
                    delivery,
                    leased_kinds=self.registry.leased_kinds,
                    worker_id=self.worker_id,
                    lease=self.lease,
                )
                if started is None:
                    log.info("job_delivery_stale", job_id=str(delivery.id), fence=delivery.fence)
                    return
                with structlog.contextvars.bound_contextvars(
                    job_id=str(delivery.id), kind=started.kind, request_id=started.request_id
                ):
                    await self._run_started(session, delivery, started)
        except asyncio.CancelledError as error:
            if not _is_cancelled():  # the handler has cancelled something of its own
                await self._fail(delivery, started, error)
                return
            if started is not None:
                await self._give_back(delivery, started)  # guard: test_a_tx_job_of_a_worker_that_stops_is_given_back
            raise
        except Fenced:
            log.warning("job_fenced", job_id=str(delivery.id), fence=delivery.fence)
        except Exception as error:  # whatever a handler raises is a failed attempt
            await self._fail(delivery, started, error)

    async def _run_started(self, session: Session, delivery: Delivery, started: StartedJob) -> None:
        handler = self.registry.by_kind.get(started.kind)
        if handler is None:
            raise NoHandler(started.kind)
        leased = handler.mode is Mode.LEASE
        if leased:
            # On record before the handler has an effect.
            await session.commit()  # guard: test_the_start_of_a_leased_job_is_on_record_before_its_handler_runs
        payload = handler.payload_class.model_validate(started.payload)
        context = JobContext(
            delivery,
            started.attempt,
            started.owner_id,
            self.mails,
            self.database,
            self.lease,
            tx_session=None if leased else session,
        )
        result = await self._call(handler, context, payload)
        if leased:
            await self._complete(delivery, started, result)
        else:
            # The handler's writes and the completion, or neither.
            await session.commit()  # guard: test_a_tx_job_commits_with_its_effect

    async def _call(self, handler: Handler, context: JobContext, payload: Any) -> Any:  # Any: see Handler
        if handler.mode is Mode.LEASE:
            self.held[context.delivery] = _this_task()
        try:
            async with asyncio.timeout(handler.timeout.total_seconds()):
                return await handler.function(context, payload)
        finally:
            self.held.pop(context.delivery, None)

    async def _complete(self, delivery: Delivery, started: StartedJob, result: Any) -> None:  # Any: JSON
        async with self.database.sessions.begin() as session:
            done = await ledger.finish(
                session, delivery, state=JobState.COMPLETED, attempt=started.attempt, result=result
            )
        if not done:
            raise Fenced  # guard: test_a_zombie_cannot_complete_its_job

    async def _give_back(self, delivery: Delivery, started: StartedJob) -> None:
        await self._settle(delivery, JobState.AVAILABLE, attempt=started.attempt - 1, due_in=NOW)

    async def _fail(self, delivery: Delivery, started: StartedJob | None, error: BaseException) -> None:
        if started is None:  # nothing is on record, so the lease brings the job back
            log.warning("job_not_started", job_id=str(delivery.id), cause=repr(error))
            return
        handler = self.registry.by_kind.get(started.kind)
        limit = started.max_attempts or (handler.max_attempts if handler else DEFAULT_MAX_ATTEMPTS)
        final = started.attempt >= limit
        backoff = handler.backoff if handler else default_backoff
        log.warning("job_attempt_failed", job_id=str(delivery.id), kind=started.kind, attempt=started.attempt,
                    discarded=final, exc_info=error)  # fmt: skip
        await self._settle(
            delivery,
            JobState.DISCARDED if final else JobState.RETRYABLE,
            attempt=started.attempt,
            due_in=None if final else backoff(started.attempt),
            error=error,
        )

    async def _settle(
        self,
        delivery: Delivery,
        state: JobState,
        *,
        attempt: int,
        due_in: timedelta | None,
        error: BaseException | None = None,
    ) -> None:
        """Put the outcome of an attempt on record. If that fails too, the lease brings the job back."""
        try:
            async with self.database.sessions.begin() as session:
                held = await ledger.finish(session, delivery, state=state, attempt=attempt, due_in=due_in)
                if held and error is not None:
                    await ledger.record_error(
                        session,
                        delivery,
                        attempt=attempt,
                        error=_storable(traceback.format_exception_only(error)),
                        trace=_storable(traceback.format_exception(error)),
                    )
                session.info["jobs_enqueued"] = due_in == NOW
        except Exception as failure:  # the database's; anything else would be a fault worth its trace
            log.warning("job_outcome_not_recorded", job_id=str(delivery.id), exc_info=not is_outage(failure))


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "jobs run in tasks"
    return task


def _is_cancelled() -> bool:
    """Whether somebody asked this task to end: the worker that stops, or the heartbeat of a job that was lost."""
    return _this_task().cancelling() > 0


def _storable(lines: list[str]) -> str:
    """Return a text that Postgres takes, whatever a handler put into its error."""
    return "".join(lines).strip().encode(errors="backslashreplace").decode().replace("\0", "\\x00")
