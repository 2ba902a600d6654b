"""For tests of your own jobs: see what is enqueued, run what is due in this process, or run jobs inline (docs/jobs.md).

pytest loads it as a plugin, on top of the fixtures of `app_db.testing.plugin`: real rows, the real runner, no Valkey.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from app_db import Database, Session
from app_db.jobs import ledger
from app_db.jobs.ledger import Delivery
from app_db.jobs.payload import JobPayload
from app_db.models import Job, JobState
from app_db.repositories.jobs import JobRepository
from app_db.testing.jobs import dispatch, due_queues, make_due, open_jobs
from app_db.types import new_id
from app_worker.context import IN_TX_MODE, JobContext
from app_worker.draining import run_due
from app_worker.handlers import HANDLERS
from app_worker.mail import Mailer, Mails, MemoryMailer
from app_worker.metrics import Metrics
from app_worker.progress import Progress
from app_worker.registry import Handler, Mode, Registry
from app_worker.runner import Runner
from app_worker.settings import MailSettings
from app_worker.verdict import NoHandler

LEASE = timedelta(hours=1)
"""Nobody renews it, and a test that stands in a debugger keeps its job."""
BASE_URL = "https://app.example.test/"

FAILED = (JobState.RETRYABLE, JobState.DISCARDED)

type DrainJobs = Callable[..., Awaitable[Counter[JobState]]]


class JobFailed(AssertionError):
    """A job that a test ran with `drain` failed; the handler's own error is its cause."""


async def enqueued[P: JobPayload](where: Database | Session, payload_class: type[P], **fields: Any) -> list[Job]:
    """Return the jobs of this class that have not ended, oldest first; with `fields`, those whose payload has them.

    Args:
        where: a database shows what is committed, a session what its own transaction has enqueued as well.
        payload_class: what they are for.
        fields: values of the payload, as they are in Python: `user_id=user.id`.
    """
    if unknown := fields.keys() - payload_class.model_fields.keys():
        raise TypeError(f"{payload_class.__name__} has no field {', '.join(sorted(unknown))}")
    async with _session_of(where) as session:
        jobs = await open_jobs(session)
    return [job for job in jobs if _matches(job, payload_class, fields)]


async def assert_enqueued[P: JobPayload](where: Database | Session, payload_class: type[P], **fields: Any) -> Job:
    """Fail unless exactly one such job has not ended; returns it, to look at its `queue`, `run_at` or `priority`.

    As for `enqueued`; what has been run by `drain` is not waiting any more.
    """
    __tracebackhide__ = True
    found = await enqueued(where, payload_class, **fields)
    if len(found) != 1:
        pytest.fail(await _message(where, payload_class, fields, wanted="one", found=len(found)))
    return found[0]


async def refute_enqueued[P: JobPayload](where: Database | Session, payload_class: type[P], **fields: Any) -> None:
    """Fail if there is such a job that has not ended. As for `enqueued`."""
    __tracebackhide__ = True
    if found := await enqueued(where, payload_class, **fields):
        pytest.fail(await _message(where, payload_class, fields, wanted="no", found=len(found)))


async def drain(
    database: Database,
    *,
    handlers: Iterable[Handler] = HANDLERS,
    mailer: Mailer | None = None,
    with_scheduled: bool | datetime = False,
    keep_failures: bool = False,
) -> Counter[JobState]:
    """Run what is due, with the real runner, one job after the other, until nothing is; what they enqueue runs too.

    Returns how many runs ended in which state: `{"completed": 2}`.

    Args:
        database: where the jobs are, committed.
        handlers: instead of the application's.
        mailer: what gets their mails.
        with_scheduled: first make due what waits for its time or for its next attempt: all of it, or what would be due
            by a certain time. What comes to wait meanwhile is left to the next call: so each is one step of a retry.
        keep_failures: go on after a job that failed, which is then to be retried or discarded.

    Raises:
        JobFailed: at the first attempt that fails, after it is on record, unless `keep_failures`.
    """
    if with_scheduled:
        async with database.sessions.begin() as session:
            await make_due(session, until=None if with_scheduled is True else with_scheduled)
    errors: dict[UUID, Exception] = {}
    runner = _runner(database, [_remembering(handler, errors) for handler in handlers], mailer)
    states: Counter[JobState] = Counter()
    async for delivery in _run_all_due(runner):
        async with database.read_sessions() as session:
            job = await JobRepository(session).get(delivery.id)
            if job is None:  # a job that deletes its own row
                continue
            states[job.state] += 1
            if job.state in FAILED and not keep_failures:
                (last, *_) = await JobRepository(session).errors_of(job.id)
                raise JobFailed(f"{_line(job)}\n\n{last.trace or last.error}") from errors.get(job.id)
    return states


@contextmanager
def inline(
    database: Database, *, handlers: Iterable[Handler] = HANDLERS, mailer: Mailer | None = None
) -> Iterator[None]:
    """Let `enqueue` run each job at once, in its caller's session and transaction, for as long as the block lasts.

    What the handler raises comes out of `enqueue`: there are no attempts, and no time limits. In lease mode
    `job.transaction()` is a savepoint. What is enqueued for later is only enqueued.
    """
    registry = Registry(handlers, catalog=())
    mails = _mails(mailer)

    async def run_inline(session: Session, job_id: UUID) -> None:
        delivery = await dispatch(session, job_id)
        if delivery is not None:
            await _run_inline(session, delivery, registry=registry, mails=mails, database=database)

    info: dict[str, Any] = database.sessions.kw["info"]  # Any: the keys of a session's info are their owners'
    database.sessions.configure(info={**info, "run_inline": run_inline})
    try:
        yield
    finally:
        database.sessions.configure(info=info)


@pytest.fixture
def mailer() -> MemoryMailer:
    """Return what gets the mails of `drain_jobs` and `inline_jobs`: look at `mailer.sent`."""
    return MemoryMailer()


@pytest.fixture
def job_handlers() -> Iterable[Handler]:
    """Return the handlers of `drain_jobs` and `inline_jobs`: the application's, unless a test overrides it."""
    return HANDLERS


@pytest.fixture
def drain_jobs(database: Database, mailer: MemoryMailer, job_handlers: Iterable[Handler]) -> DrainJobs:
    """Return `drain` for the database of the test; it takes `with_scheduled` and `keep_failures`."""
    return partial(drain, database, handlers=job_handlers, mailer=mailer)


@pytest.fixture
def inline_jobs(database: Database, mailer: MemoryMailer, job_handlers: Iterable[Handler]) -> Iterator[None]:
    """Run jobs inline for the whole test."""
    with inline(database, handlers=job_handlers, mailer=mailer):
        yield


@dataclass(frozen=True, slots=True)
class _InlineContext(JobContext):
    """What a handler gets inline: whatever its mode, it works in the session of the caller."""

    caller: Session

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        assert self.tx_session is None, IN_TX_MODE
        async with self.caller.begin_nested():
            yield self.caller


class _InlineProgress(Progress):
    """Writes every word: one that came later would use the caller's session while the caller does."""

    async def show(self, progress: Any) -> None:  # Any: JSON
        await self._write(progress)


async def _run_inline(
    session: Session, delivery: Delivery, *, registry: Registry, mails: Mails, database: Database
) -> None:
    leased = registry.leased_kinds
    job = await ledger.start(session, delivery, leased_kinds=leased, worker_id=new_id(), lease=LEASE)
    assert job is not None, "it was dispatched in this transaction"
    handler = registry.by_kind.get(job.kind)
    if handler is None:
        raise NoHandler(job.kind)
    tx_session = session if handler.mode is Mode.TX else None

    async def show(progress: Any) -> None:  # Any: JSON
        await ledger.set_progress(session, delivery, progress)

    context = _InlineContext(
        delivery, job, mails, database, LEASE, registry.retention, tx_session, _InlineProgress(show), caller=session
    )
    result = await handler.function(context, handler.payload_class.read(job.payload, job.payload_version))
    if handler.mode is Mode.LEASE:
        await ledger.finish(session, delivery, state=JobState.COMPLETED, attempt=job.attempt, result=result)
    elif result is not None:
        await ledger.set_result(session, delivery, result)


async def _run_all_due(runner: Runner) -> AsyncIterator[Delivery]:
    """Run what is due in any queue, until there is no more."""
    ran = True
    while ran:
        ran = False
        async with runner.database.read_sessions() as session:
            queues = await due_queues(session)
        async for delivery in run_due(runner, queues=queues, lease=LEASE):
            ran = True
            yield delivery


def _runner(database: Database, handlers: Iterable[Handler], mailer: Mailer | None) -> Runner:
    registry = Registry(handlers, catalog=())
    metrics = Metrics(kinds=registry.by_kind, queues=(), enqueued=database.enqueued)
    return Runner(database, registry, _mails(mailer), new_id(), LEASE, metrics)


def _mails(mailer: Mailer | None) -> Mails:
    return Mails(mailer or MemoryMailer(), MailSettings().sender, BASE_URL)


def _remembering(handler: Handler, errors: dict[UUID, Exception]) -> Handler:
    """Return the handler, with a note of what it raises: the runner keeps only its text."""

    async def function(context: JobContext, payload: Any) -> Any:  # Any: see Handler
        try:
            return await handler.function(context, payload)
        except Exception as error:
            errors[context.id] = error
            raise

    return replace(handler, function=function)


@asynccontextmanager
async def _session_of(where: Database | Session) -> AsyncIterator[Session]:
    if isinstance(where, Database):
        async with where.read_sessions() as session:
            yield session
    else:
        yield where


def _matches(job: Job, payload_class: type[JobPayload], fields: Mapping[str, Any]) -> bool:
    if job.kind != payload_class.kind:
        return False
    payload = payload_class.read(job.payload, job.payload_version)
    return all(getattr(payload, name) == value for name, value in fields.items())


def _line(job: Job) -> str:
    return (
        f"{job.kind} {json.dumps(job.payload)} ({job.state}, queue {job.queue}, run_at {job.run_at:%Y-%m-%d %H:%M:%SZ})"
    )


async def _message(
    where: Database | Session, payload_class: type[JobPayload], fields: Mapping[str, Any], *, wanted: str, found: int
) -> str:
    shown = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    async with _session_of(where) as session:
        lines = [_line(job) for job in await open_jobs(session)]
    there = "\n  ".join(["Waiting to run are:", *lines]) if lines else "Nothing waits to run."
    return f"wanted {wanted} {payload_class.__name__}({shown}), found {found or 'none'}. {there}"
