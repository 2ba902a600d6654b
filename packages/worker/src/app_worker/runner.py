"""Runs one delivery of one job. The edge of a job: nothing else here commits."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from app_db import Database, Session
from app_db.jobs import ledger
from app_db.jobs.commits import wake_after_commit
from app_db.jobs.ledger import Delivery, StartedJob, Starter
from app_db.models import JobState
from app_db.outage import is_outage
from app_worker.context import Fenced, JobContext, Snooze
from app_worker.history import record
from app_worker.mail import Mails
from app_worker.metrics import Metrics
from app_worker.progress import Progress
from app_worker.registry import Handler, Mode, Registry
from app_worker.results import require_storable
from app_worker.verdict import NOW, NoHandler, Verdict, a_moment, is_cancelled, judge, never_started, this_task

log = structlog.get_logger(__name__)

PAUSE = timedelta(milliseconds=500)
UNKNOWN = dict.fromkeys(("kind", "attempt", "request_id", "user_id"))
SUSPICIOUS = 2
"""A job that was there at so many deaths of workers may be what killed them."""

type Told = Callable[[str, BaseException | None], None]
type Trace = Callable[[Delivery, StartedJob], AbstractContextManager[Told]]


@dataclass(slots=True)
class _Attempt:
    """What is known of a delivery so far."""

    delivery: Delivery
    job: StartedJob | None = None
    may_have_started: bool = False
    """Whether the start may be on record without our knowing."""
    handler: Handler | None = None
    progress: Any | None = None  # Any: JSON
    completed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the completion is committed: the rest is for the log."""
    began: float = field(default_factory=time.monotonic)
    spans: ExitStack = field(default_factory=ExitStack)
    told: Told | None = None
    """What hears of the outcome, where the attempt is traced."""

    @property
    def kind(self) -> str:
        return self.handler.payload_class.kind if self.handler else "unknown"


@dataclass(slots=True, eq=False)
class Runner:
    """Takes deliveries to their end: completed, to be retried, discarded, cancelled, or given back."""

    database: Database
    registry: Registry
    mails: Mails
    worker_id: UUID
    lease: timedelta
    metrics: Metrics
    running: set[Delivery] = field(default_factory=set)
    """The deliveries that are in hand, for the heartbeat: until their outcome is on record nobody else takes them."""
    held: dict[Delivery, asyncio.Task[Any]] = field(default_factory=dict)
    """Those in lease mode whose handler runs, for the heartbeat."""
    suspects: set[Delivery] = field(default_factory=set)
    """Those that run now and are suspicious: one at most, so that a poisonous job takes no other one down with it."""
    expected: Mode = Mode.TX
    """That of the last job."""
    trace: Trace | None = None
    """What each attempt runs in, where traces are on."""
    starter: Starter = field(init=False)

    def __post_init__(self) -> None:
        self.starter = Starter(self.worker_id, self.registry.leased_kinds, self.lease)

    async def run(self, delivery: Delivery) -> None:
        """Run the job unless this delivery is stale. Whatever goes wrong is on record afterwards; nothing is raised.

        Raises:
            asyncio.CancelledError: after the job was given back, when the worker or the heartbeat ends it.
        """
        attempt = _Attempt(delivery)
        self.running.add(delivery)  # guard: test_a_failure_is_recorded_before_anybody_else_takes_the_job
        attempt.spans.callback(self.running.discard, delivery)
        # The runner adds the rest when it knows it; all of it ends here.
        with structlog.contextvars.bound_contextvars(job_id=str(delivery.id), **UNKNOWN), attempt.spans:
            try:
                verdict = await self._start(attempt)
            except (Exception, asyncio.CancelledError) as error:
                if attempt.job is not None:
                    await self._settle(attempt, judge(error, attempt.job, attempt.handler))
                elif attempt.may_have_started:  # or the end of its lease would count as a crash
                    await self._settle(attempt, never_started())  # guard: test_a_start_that_was_lost_is_no_crash
                else:  # nothing is on record, so the lease brings the job back
                    log.warning("job_not_started", cause=repr(error))
                if is_cancelled():
                    raise
            else:
                if verdict is not None:
                    await self._settle(attempt, verdict)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        session = self.database.sessions()
        try:
            yield session
        finally:
            if session.in_transaction():  # a commit has given the connection back, and closing costs a task
                await session.close()

    async def _start(self, attempt: _Attempt) -> Verdict | None:
        """Take the job and run its handler; return what is left to put on record."""
        # What kind it is only the ledger knows. Most come after one of the same mode, and this way is one round trip
        # where the other is three; a wrong guess costs one more.
        if self.expected is Mode.LEASE:
            attempt.may_have_started = True
            attempt.job = await ledger.start_leased(self.database, attempt.delivery, self.starter)
            attempt.may_have_started = False
            if attempt.job is not None:
                return await self._run(None, attempt, attempt.job)
        async with self._session() as session:
            attempt.job = await ledger.start(session, attempt.delivery, self.starter)
            if attempt.job is None:
                self.metrics.stale()
                log.info("job_delivery_stale", fence=attempt.delivery.fence)
                return None
            return await self._run(session, attempt, attempt.job)

    async def _run(self, session: Session | None, attempt: _Attempt, job: StartedJob) -> Verdict | None:
        """Run the handler; the start is on record if there is no session, else a part of its transaction."""
        structlog.contextvars.bind_contextvars(
            kind=job.kind, attempt=job.attempt, request_id=job.request_id, user_id=job.owner_id and str(job.owner_id)
        )  # guard: test_what_a_handler_logs_names_the_request_and_the_user_that_it_is_for
        if self.trace is not None:
            attempt.told = attempt.spans.enter_context(self.trace(attempt.delivery, job))
        attempt.handler = handler = self.registry.by_kind.get(job.kind)
        self.metrics.started(attempt.kind)
        if handler is None:
            raise NoHandler(job.kind)
        self.expected = handler.mode
        payload = handler.payload_class.read(job.payload, job.payload_version)
        with self._apart(attempt.delivery, job):
            if session is not None and job.is_marked:
                # On record before the handler has an effect.
                await session.commit()  # guard: test_the_start_of_a_leased_job_is_on_record_before_its_handler_runs
            if session is None or handler.mode is Mode.LEASE:
                result = await self._lease(attempt, job, handler, payload)
                return Verdict("completed", JobState.COMPLETED, result=result)
            await self._transact(session, attempt, job, handler, payload)
            return None

    @contextmanager
    def _apart(self, delivery: Delivery, job: StartedJob) -> Iterator[None]:
        if job.crashes < SUSPICIOUS:
            yield
            return
        if self.suspects:
            raise Snooze(a_moment())  # guard: test_a_worker_runs_one_suspicious_job_at_a_time
        self.suspects.add(delivery)
        try:
            yield
        finally:
            self.suspects.remove(delivery)

    async def _lease(self, attempt: _Attempt, job: StartedJob, handler: Handler, payload: Any) -> Any:  # Any: Handler
        progress = Progress(partial(self._show, attempt.delivery))
        self.held[attempt.delivery] = this_task()
        try:
            context = self._context(attempt, job, None, progress)
            return await _call(handler, context, payload)
        finally:
            self.held.pop(attempt.delivery, None)
            await progress.close()
            attempt.progress = progress.latest

    async def _transact(
        self, session: Session, attempt: _Attempt, job: StartedJob, handler: Handler, payload: Any
    ) -> None:
        """Commit the handler's writes and the completion together, or neither."""
        delivery = attempt.delivery
        session.info["request_id"] = job.request_id
        if job.is_marked and not await ledger.finish(session, delivery, state=JobState.COMPLETED):
            raise Fenced  # guard: test_a_marked_tx_job_that_was_lost_does_not_run
        context = self._context(attempt, job, session, Progress(partial(self._show, delivery)))
        with session.undivided():
            result = await _call(handler, context, payload)
        if result is not None:
            await ledger.set_result(session, delivery, result)
        await session.commit()  # guard: test_a_tx_job_commits_with_its_effect
        self._ended(attempt, "completed")

    def _context(self, attempt: _Attempt, job: StartedJob, session: Session | None, progress: Progress) -> JobContext:
        return JobContext(
            attempt.delivery, job, self.mails, self.database, self.lease, self.registry.by_kind[job.kind].timeout,
            self.registry.retention, session, progress, attempt.completed,
        )  # fmt: skip

    async def _show(self, delivery: Delivery, progress: Any) -> None:  # Any: JSON
        async with self.database.sessions.begin() as session:
            if not await ledger.set_progress(session, delivery, progress):
                raise Fenced  # guard: test_a_zombie_cannot_show_progress

    async def _settle(self, attempt: _Attempt, verdict: Verdict) -> None:
        """Put the end of an attempt on record, again and again while the database is away.

        When the lease is over it is given up: then the job comes back by itself. What Postgres does not take (JSON may
        hold a NUL, jsonb may not) makes it a failed attempt without its progress.
        """
        try:
            async with asyncio.timeout(self.lease.total_seconds()):
                while not await self._try_to_settle(attempt, verdict):  # noqa: ASYNC110  # it is another process
                    await asyncio.sleep(PAUSE.total_seconds())
        except TimeoutError:
            log.warning("job_outcome_not_recorded")
            self._ended(attempt, "given_back")
        except Exception as failure:
            if attempt.job is None or (verdict.error is not None and attempt.progress is None):
                log.warning("job_outcome_not_recorded", exc_info=failure)  # not even its failure: see the lease
                return
            attempt.progress = None  # guard: test_an_error_is_on_record_although_the_last_progress_cannot_be
            await self._settle(attempt, verdict if verdict.error else judge(failure, attempt.job, attempt.handler))

    async def _try_to_settle(self, attempt: _Attempt, verdict: Verdict) -> bool:
        """Return False if the database did not answer."""
        try:
            state = await self._finish(attempt, verdict)
        except Exception as failure:
            if is_outage(failure):
                return False
            raise
        if state is None:
            self._ended(attempt, "fenced")  # another delivery has the job: nothing was written
        else:
            outcome = {JobState.CANCELLED: "cancelled", JobState.COMPLETED: "completed"}.get(state, verdict.outcome)
            self._ended(attempt, outcome, error=verdict.error)
        return True

    async def _finish(self, attempt: _Attempt, verdict: Verdict) -> JobState | None:
        delivery = attempt.delivery
        if verdict.state is JobState.COMPLETED and not attempt.completed.is_set():
            held = await ledger.complete(self.database, delivery, result=verdict.result, progress=attempt.progress)
            return JobState.COMPLETED if held else None
        async with self.database.sessions.begin() as session:
            if attempt.completed.is_set():
                if verdict.result is not None:
                    await ledger.set_result(session, delivery, verdict.result)
                return JobState.COMPLETED
            state = await ledger.finish(
                session,
                delivery,
                state=verdict.state,
                costs_attempt=verdict.costs_attempt,
                due_in=verdict.due_in,
                progress=attempt.progress,
            )
            if state is not None and verdict.error is not None and attempt.job is not None:
                await record(session, delivery, attempt=attempt.job.attempt, error=verdict.error)
            if verdict.due_in == NOW:
                wake_after_commit(session)
            return state

    def _ended(self, attempt: _Attempt, outcome: str, *, error: BaseException | None = None) -> None:
        if attempt.job is not None:
            self.metrics.ended(attempt.kind, outcome, time.monotonic() - attempt.began)
        if attempt.told is not None:
            attempt.told(outcome, error)
        # A line for each job that went well would cost more than the ledger does, unless it is asked for.
        say = log.debug if outcome == "completed" else log.info if error is None else log.warning
        say("job_ended", outcome=outcome, attempt=attempt.job and attempt.job.attempt, exc_info=error)


async def _call(handler: Handler, context: JobContext, payload: Any) -> Any:  # Any: see Handler
    """Return what the handler returns.

    Raises:
        TimeoutError: when it takes too long.
        ResultTooLarge, TypeError, ValueError: when it returns what cannot be kept.
    """
    async with asyncio.timeout(handler.timeout.total_seconds()):
        result = await handler.function(context, payload)
    if result is not None:
        require_storable(result)
    return result
