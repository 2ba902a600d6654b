"""Runs one delivery of one job, and commits the transactions of handlers in tx mode."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from app_db import Database, Session
from app_db.jobs import claims, ledger
from app_db.jobs.after_commit import notify_after_commit
from app_db.jobs.claims import SUSPICIOUS
from app_db.jobs.encryption import JobCipher
from app_db.jobs.leased import LeasedJobs
from app_db.jobs.ledger import Delivery, StartedJob, Starter
from app_db.models import JobState
from app_db.outage import is_connection_lost, is_outage
from app_runtime.texts import safe_repr
from app_worker.attempt import Attempt, TraceOutcome
from app_worker.batches import Batches
from app_worker.context import Fenced, JobContext, Snooze
from app_worker.error_groups import as_one
from app_worker.history import truncated
from app_worker.invocation import call
from app_worker.mail import Mails
from app_worker.metrics import Metrics
from app_worker.outcome import NoHandler, Outcome, is_cancelled, never_started, outcome_of, short_wait, this_task
from app_worker.progress import Progress
from app_worker.recorder import Recorder, log_failure
from app_worker.registry import Handler, Mode, Registry
from app_worker.steps import Steps

log = structlog.get_logger(__name__)

UNKNOWN = dict.fromkeys(("kind", "attempt", "request_id", "user_id"))

type Trace = Callable[[Delivery, StartedJob], AbstractContextManager[TraceOutcome]]


@dataclass(slots=True, eq=False)
class Runner:
    """Runs deliveries until the outcome is recorded: completed, failed, discarded, cancelled, given back."""

    database: Database
    registry: Registry
    mails: Mails
    worker_id: UUID
    lease: timedelta
    metrics: Metrics
    running: set[Delivery] = field(default_factory=set)
    """All deliveries whose outcome is not recorded yet; the heartbeat keeps relays from claiming them again."""
    lease_tasks: dict[Delivery, asyncio.Task[Any]] = field(default_factory=dict)
    """The tasks of the handlers that run in lease mode, for the heartbeat."""
    suspects: set[Delivery] = field(default_factory=set)
    """The running job that is suspicious: at most one, so that a poisonous job crashes no other suspicious one."""
    stopping: bool = False
    """Whether the worker stops: then a cancelled job is given back."""
    cancelled: set[Delivery] = field(default_factory=set)
    """Running deliveries that `cancel` was called for: the worker has lost the job, or was asked to cancel it."""
    connection_losses: Counter[UUID] = field(default_factory=Counter)
    """How often in a row a job has lost its connection to Postgres in this process."""
    expected_mode: Mode = Mode.TX
    """The mode of the last job."""
    trace: Trace | None = None
    """Opens the span of an attempt, if traces are on."""
    started: dict[Delivery, StartedJob] = field(default_factory=dict)
    """Jobs that their claim has started, and that `run` has not been called for yet."""
    starter: Starter = field(init=False)
    leased: LeasedJobs = field(init=False)
    recorder: Recorder = field(init=False)
    batches: Batches = field(init=False)

    def __post_init__(self) -> None:
        self.starter = Starter(self.worker_id, self.registry.leased_kinds, self.lease)
        self.leased = LeasedJobs(self.database, self.starter)
        self.recorder = Recorder(self.database, self.lease, self.metrics, self.leased)
        self.batches = Batches(self.database)

    def cancel(self, delivery: Delivery) -> None:
        """Cancel the handler of a job in lease mode; the attempt does not count."""
        self.cancelled.add(delivery)
        self.lease_tasks[delivery].cancel()

    @property
    def held_ids(self) -> list[UUID]:
        """The jobs that no relay may claim again."""
        return [delivery.id for delivery in (*self.running, *self.started)]

    async def give_back_lost(self, queues: Sequence[str]) -> None:
        """Give back the jobs that claims have started for this worker, and that it does not run."""
        async with self._start_timeout(), self.database.sessions.begin() as session:
            await claims.make_lost_due(session, queues, worker_id=self.worker_id, held_ids=self.held_ids)
            notify_after_commit(session)

    def stop(self) -> None:
        """Give back jobs that are cancelled from now on."""
        self.stopping = True  # guard: test_a_leased_job_of_a_worker_that_stops_is_given_back

    async def run(self, delivery: Delivery) -> None:
        """Start the job, run its handler, and finish it with an outcome; do nothing if the delivery is stale.

        An error of the handler is recorded and not raised.

        Raises:
            asyncio.CancelledError: after the job was given back, when the worker or the heartbeat cancels it.
        """
        attempt = Attempt(delivery, self.started.pop(delivery, None))
        self.running.add(delivery)  # guard: test_a_failure_is_recorded_before_anybody_else_takes_the_job
        attempt.spans.callback(self.running.discard, delivery)
        attempt.spans.callback(self.cancelled.discard, delivery)
        # `_run` binds the values of UNKNOWN when they are known; they are all unbound here.
        with structlog.contextvars.bound_contextvars(job_id=str(delivery.id), **UNKNOWN), attempt.spans:
            try:
                outcome = await self._start(attempt)
            except BaseException as error:
                await self._finish_failed(attempt, error)
                if is_cancelled():
                    raise
            else:
                self.connection_losses.pop(delivery.id, None)
                if outcome is not None:
                    await self.recorder.finish(
                        attempt, outcome
                    )  # guard: test_the_slot_of_a_job_is_free_when_its_own_row_is_on_record
            if attempt.job is not None and attempt.job.batch_id is not None:
                await self.batches.note_end(
                    attempt.job.batch_id
                )  # guard: test_a_worker_adds_up_the_end_of_a_job_at_once

    async def _finish_failed(self, attempt: Attempt, error: BaseException) -> None:
        """Record the outcome of an attempt that an error ended, or of its start."""
        if attempt.job is not None:
            losses = self.connection_losses.pop(attempt.delivery.id, 0)
            outcome = outcome_of(error, attempt, is_ours=self._is_ours(attempt.delivery), losses=losses)
            if is_connection_lost(as_one(error)):
                self.connection_losses[attempt.delivery.id] = losses + 1
            await self.recorder.finish(attempt, outcome)
        elif attempt.may_have_started or isinstance(error, TimeoutError) or is_outage(error):
            # Else the job would wait for the end of its lease, which would count as a crash if the start was committed.
            await self.recorder.finish(attempt, never_started())  # guard: test_a_start_that_was_lost_is_no_crash
        else:  # nothing was written: the job is claimed again when its lease ends
            log.warning("job_not_started", cause=safe_repr(error))

    def _is_ours(self, delivery: Delivery) -> bool:
        """Return whether this worker cancelled the delivery, and not its handler or a library."""
        return self.stopping or delivery in self.cancelled

    def _start_timeout(self) -> asyncio.Timeout:
        """Return a limit for the start: the command timeout is that of the longest handler, which may be hours."""
        return asyncio.timeout(
            self.database.settings.request_timeout.total_seconds()
        )  # guard: test_a_start_on_a_silent_connection_is_given_back

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        session = self.database.sessions()
        try:
            with session.naming_failed_flush():
                yield session
        finally:
            if session.in_transaction():
                await session.close()
            else:  # the commit has returned the connection, and the asynchronous close would cost a task
                session.sync_session.close()

    async def _start(self, attempt: Attempt) -> Outcome | None:
        """Start the job and run its handler; return the outcome, unless it is recorded or the delivery is stale."""
        if attempt.job is not None:
            return await self._run(None, attempt, attempt.job)
        # Only the ledger knows the kind. Most jobs have the mode of the job before them, and a start in lease mode is
        # one round trip instead of three; a wrong guess costs one more.
        if self.expected_mode is Mode.LEASE:
            attempt.may_have_started = True
            async with self._start_timeout():
                attempt.job = await self.leased.start(attempt.delivery)
            attempt.may_have_started = False
            if attempt.job is not None:
                return await self._run(None, attempt, attempt.job)
        async with self._session() as session:
            async with self._start_timeout():
                attempt.job = await ledger.start(session, attempt.delivery, self.starter)
            if attempt.job is None:
                self.metrics.stale()
                log.info("job_delivery_stale", fence=attempt.delivery.fence)
                return None
            return await self._run(session, attempt, attempt.job)

    async def _run(self, session: Session | None, attempt: Attempt, job: StartedJob) -> Outcome | None:
        """Run the handler. With a session, the start is part of its transaction; else it is committed already."""
        structlog.contextvars.bind_contextvars(
            kind=job.kind, attempt=job.attempt, request_id=job.request_id, user_id=job.owner_id and str(job.owner_id)
        )  # guard: test_what_a_handler_logs_names_the_request_and_the_user_that_it_is_for
        if self.trace is not None:
            with log_failure("attempt_not_traced"):
                attempt.trace_outcome = attempt.spans.enter_context(self.trace(attempt.delivery, job))
        attempt.handler = handler = self.registry.by_kind.get(job.kind)
        self.recorder.report_start(attempt)
        if handler is None:
            raise NoHandler(job.kind)
        self.expected_mode = handler.mode
        cipher = self._cipher(attempt.delivery, job)
        payload = cipher.read(handler.payload_class, json.loads(job.payload), job.payload_version)
        with self._alone_if_suspicious(attempt.delivery, job):
            if session is not None and job.is_marked:
                # The start is committed before the handler has an effect.
                await session.commit()  # guard: test_the_start_of_a_leased_job_is_on_record_before_its_handler_runs
            if session is None or handler.mode is Mode.LEASE:
                result = await self._run_in_lease_mode(attempt, job, handler, payload)
                return Outcome("completed", JobState.COMPLETED, result=result)
            await self._run_in_tx_mode(session, attempt, job, handler, payload)
            return None

    @contextmanager
    def _alone_if_suspicious(self, delivery: Delivery, job: StartedJob) -> Iterator[None]:
        if job.crashes < SUSPICIOUS:
            yield
            return
        if self.suspects:
            raise Snooze(short_wait())  # guard: test_a_worker_runs_one_suspicious_job_at_a_time
        self.suspects.add(delivery)
        try:
            yield
        finally:
            self.suspects.remove(delivery)

    async def _run_in_lease_mode(
        self, attempt: Attempt, job: StartedJob, handler: Handler, payload: Any
    ) -> Any:  # Any: Handler
        progress = Progress(partial(self._write_progress, attempt.delivery))
        self.lease_tasks[attempt.delivery] = this_task()
        try:
            context = self._context(attempt, job, None, progress)
            result = await self._call(attempt, handler, context, payload)
            context.steps.require_all_asked()
            return result
        finally:
            self.lease_tasks.pop(attempt.delivery, None)
            await progress.close()
            attempt.progress = progress.latest

    async def _run_in_tx_mode(
        self, session: Session, attempt: Attempt, job: StartedJob, handler: Handler, payload: Any
    ) -> None:
        """Run the handler; its writes and the completion are one commit."""
        delivery = attempt.delivery
        session.info["request_id"] = job.request_id
        if job.is_marked and not await ledger.finish(session, delivery, state=JobState.COMPLETED):
            raise Fenced  # guard: test_a_marked_tx_job_that_was_lost_does_not_run
        context = self._context(attempt, job, session, Progress(partial(self._write_progress, delivery)))
        with session.undivided():
            result = await self._call(attempt, handler, context, payload)
        if result is not None:
            await ledger.set_result(session, delivery, result)
        await session.commit()  # guard: test_a_tx_job_commits_with_its_effect
        self.recorder.report_finish(attempt, "completed")

    async def _call(self, attempt: Attempt, handler: Handler, context: JobContext, payload: Any) -> Any:  # Any: Handler
        is_ours = partial(self._is_ours, attempt.delivery)
        result = await call(handler, context, payload, attempt=attempt, is_ours=is_ours)
        return context.steps.cipher.seal("result", result)

    def _cipher(self, delivery: Delivery, job: StartedJob) -> JobCipher:
        is_encrypted = self.registry.by_kind[job.kind].payload_class.is_encrypted
        return JobCipher(self.database.payload_keys, delivery.id, job.kind, is_encrypted)

    def _context(self, attempt: Attempt, job: StartedJob, session: Session | None, progress: Progress) -> JobContext:
        return JobContext(
            attempt.delivery, job, self.mails, self.database, self.lease, self.registry.by_kind[job.kind].timeout,
            self.registry.retention, session, progress, attempt.completed,
            Steps.of(job, self._cipher(attempt.delivery, job)),
            partial(self._stop_if_asked, attempt.delivery),
        )  # fmt: skip

    async def _stop_if_asked(self, delivery: Delivery) -> None:
        if self.stopping:
            self.cancel(delivery)
            await asyncio.get_running_loop().create_future()  # until the task that runs the job has been cancelled

    async def _write_progress(self, delivery: Delivery, progress: Any) -> None:  # Any: JSON
        async with self.database.sessions.begin() as session:
            if not await ledger.set_progress(session, delivery, truncated(progress)):
                raise Fenced  # guard: test_a_zombie_cannot_show_progress
