"""For tests of your own jobs: look at enqueued jobs, run due jobs in this process, or run jobs inline.

pytest loads it as a plugin, on top of the fixtures of `app_db.testing.plugin`: real rows, the real runner, no Valkey.
"""

import base64
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from typing import Any
from uuid import UUID

import pytest
import structlog

from app_auth.mail import MailSettings
from app_auth.one_time import OneTimeTokens
from app_auth.settings import OneTimeSettings
from app_db import Database, Session
from app_db.jobs.ledger import Delivery
from app_db.models import Job, JobState
from app_db.repositories.jobs import JobRepository
from app_db.testing.jobs import (
    assert_enqueued,
    due_queues,
    enqueued,
    line_of,
    make_due,
    refute_enqueued,
)
from app_db.types import new_id
from app_runtime.resources import Opened
from app_worker.context import JobContext
from app_worker.draining import run_due
from app_worker.handlers import HANDLERS
from app_worker.limiting import declare
from app_worker.mail import Mailer, Mails, MemoryMailer
from app_worker.metrics import Metrics
from app_worker.registry import Handler, Registry
from app_worker.resources import supplied
from app_worker.runner import Runner
from app_worker.testing.inlining import LEASE, run_inline

__all__ = [
    "DrainJobs",
    "JobFailed",
    "assert_enqueued",
    "drain",
    "drain_jobs",
    "enqueued",
    "inline",
    "inline_jobs",
    "job_handlers",
    "job_resources",
    "mailer",
    "refute_enqueued",
]

BASE_URL = "https://app.example.test/"

NOTHING: Opened = {}

FAILED = (JobState.RETRYABLE, JobState.DISCARDED)

type DrainJobs = Callable[..., Awaitable[Counter[JobState]]]


class JobFailed(AssertionError):
    """A job that a test ran with `drain` failed; the handler's own error is its cause."""


def pytest_configure() -> None:
    """Log plain traces: by default structlog prints every local variable, which takes seconds."""
    if not structlog.is_configured():
        *others, _ = structlog.get_config()["processors"]
        plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        structlog.configure(processors=[*others, plain])


async def drain(
    database: Database,
    *,
    handlers: Iterable[Handler] = HANDLERS,
    mailer: Mailer | None = None,
    resources: Opened = NOTHING,
    with_scheduled: bool | datetime = False,
    keep_failures: bool = False,
) -> Counter[JobState]:
    """Run due jobs with the real runner until none is due, and those that they enqueue; return the states of the runs.

    Args:
        database: has the jobs, committed.
        handlers: instead of the application's.
        mailer: gets their mails.
        resources: the resources that handlers ask for, by type, as in `{Vet: FakeVet()}`.
        with_scheduled: first make due the jobs that wait: all, or those until a certain time; each call is one retry.
        keep_failures: go on after a failed attempt; the job is then retryable or discarded.

    Raises:
        JobFailed: when the first failed attempt is recorded, unless `keep_failures`.

    Example:
        assert await drain(database, handlers=[end_sessions]) == {"completed": 1}
    """
    if with_scheduled:
        async with database.sessions.begin() as session:
            await make_due(session, until=None if with_scheduled is True else with_scheduled)
    errors: dict[UUID, Exception] = {}
    runner = _runner(database, [_remembering(handler, errors) for handler in supplied(handlers, resources)], mailer)
    states: Counter[JobState] = Counter()
    async for delivery in _run_all_due(runner):
        async with database.read_sessions() as session:
            job = await JobRepository(session).get(delivery.id)
            if job is not None:  # else the job has deleted its own row
                states[job.state] += 1
                if job.state in FAILED and not keep_failures:
                    raise await _failure_of(job, session) from errors.get(job.id)
    return states


async def _failure_of(job: Job, session: Session) -> JobFailed:
    (last, *_) = await JobRepository(session).errors_of(job.id)
    return JobFailed(f"{line_of(job)}\n\n{last.trace or last.error}")


@contextmanager
def inline(
    database: Database,
    *,
    handlers: Iterable[Handler] = HANDLERS,
    mailer: Mailer | None = None,
    resources: Opened = NOTHING,
) -> Iterator[None]:
    """Let `enqueue` run each job at once, in its caller's session and transaction, for as long as the block lasts.

    `enqueue` raises the exceptions of the handler: there are no attempts, and no time limits. In lease mode
    `job.transaction()` is a savepoint. Jobs for later are only enqueued.

    Example:
        with inline(database, handlers=[end_sessions]):
            async with database.unit_of_work() as session:
                await enqueue(session, EndSessions(user_id=ada.id))  # has run when this returns
    """
    registry = Registry(supplied(handlers, resources), catalog=())
    mails = _mails(mailer)

    async def run(session: Session, job_id: UUID) -> None:
        await run_inline(session, job_id, registry=registry, mails=mails, database=database)

    info: dict[str, Any] = database.sessions.kw["info"]  # Any: as SQLAlchemy types it
    database.sessions.configure(info={**info, "run_inline": run})
    try:
        yield
    finally:
        database.sessions.configure(info=info)


@pytest.fixture
def mailer() -> MemoryMailer:
    """Return the mailer of `drain_jobs` and `inline_jobs`; its mails are in `mailer.sent`.

    Example:
        async def test_a_new_account_is_greeted(
            make_account: MakeAccount, drain_jobs: DrainJobs, mailer: MemoryMailer
        ) -> None:
            await make_account(email="ada@example.test")

            await drain_jobs()

            assert [mail["To"] for mail in mailer.sent] == ["ada@example.test"]
    """
    return MemoryMailer()


@pytest.fixture
def job_handlers() -> Iterable[Handler]:
    """Return the handlers of `drain_jobs` and `inline_jobs`: the application's, unless a test overrides it.

    Example:
        @pytest.fixture
        def job_handlers() -> list[Handler]:
            return [end_sessions]

        async def test_it_is_signed_out(session: Session, drain_jobs: DrainJobs) -> None:
            await enqueue(session, EndSessions(user_id=new_id()))
            await session.commit()

            assert await drain_jobs() == {"completed": 1}
    """
    return HANDLERS


@pytest.fixture
def job_resources() -> Opened:
    """Return the resources of handlers, by type: none, unless a test overrides it (`{Vet: FakeVet()}`).

    Example:
        @pytest.fixture
        def job_handlers() -> list[Handler]:
            return [call_vet]

        @pytest.fixture
        def job_resources() -> Opened:
            return {Vet: FakeVet()}

        async def test_the_vet_is_called(session: Session, drain_jobs: DrainJobs, job_resources: Opened) -> None:
            await enqueue(session, CallVet())
            await session.commit()

            assert await drain_jobs() == {"completed": 1}
            assert job_resources[Vet].calls == 1
    """
    return NOTHING


@pytest.fixture
def drain_jobs(
    database: Database, mailer: MemoryMailer, job_handlers: Iterable[Handler], job_resources: Opened
) -> DrainJobs:
    """Return `drain` for the database of the test; it takes `with_scheduled` and `keep_failures`.

    Example:
        async def test_a_welcome_that_waits_is_sent(
            session: Session, make_user: MakeUser, drain_jobs: DrainJobs
        ) -> None:
            ada = await make_user()
            await enqueue(session, WelcomeEmail(user_id=ada.id), run_at=utcnow() + timedelta(days=1))
            await session.commit()

            assert await drain_jobs() == {}
            assert await drain_jobs(with_scheduled=True) == {"completed": 1}
    """
    return partial(drain, database, handlers=job_handlers, mailer=mailer, resources=job_resources)


@pytest.fixture
def inline_jobs(
    database: Database, mailer: MemoryMailer, job_handlers: Iterable[Handler], job_resources: Opened
) -> Iterator[None]:
    """Run jobs inline for the whole test.

    Example:
        @pytest.mark.usefixtures("inline_jobs")
        async def test_a_new_account_has_been_greeted(make_account: MakeAccount, mailer: MemoryMailer) -> None:
            await make_account()

            assert len(mailer.sent) == 1
    """
    with inline(database, handlers=job_handlers, mailer=mailer, resources=job_resources):
        yield


async def _run_all_due(runner: Runner) -> AsyncIterator[Delivery]:
    """Run the due jobs of all queues, until none is due."""
    if any(handler.payload_class.limited for handler in runner.registry.by_kind.values()):
        await declare(runner)
    ran = True
    while ran:
        ran = False
        async with runner.database.read_sessions() as session:
            queues = await due_queues(session)
        async for delivery in run_due(runner, queues=queues, lease=LEASE):
            ran = True
            yield delivery
        ran = await runner.batches.settle_all() or ran  # guard: test_a_cancelled_batch_ends_with_what_it_would_have_got


def _runner(database: Database, handlers: Iterable[Handler], mailer: Mailer | None) -> Runner:
    registry = Registry(handlers, catalog=())
    metrics = Metrics(kinds=registry.by_kind, queues=())
    return Runner(database, registry, _mails(mailer), new_id(), LEASE, metrics)


@cache
def one_time_settings() -> OneTimeSettings:
    """Return settings with a key that lives as long as this process."""
    secret = base64.b64encode(secrets.token_bytes(32)).decode()
    return OneTimeSettings.model_validate({"token_keys": [{"kid": "test", "secret": secret}]})


def _mails(mailer: Mailer | None) -> Mails:
    return Mails(mailer or MemoryMailer(), MailSettings().sender, BASE_URL, OneTimeTokens(one_time_settings()))


def _remembering(handler: Handler, errors: dict[UUID, Exception]) -> Handler:
    """Return the handler; `errors` gets its exceptions, of which the runner keeps only the text."""

    async def function(context: JobContext, payload: Any) -> Any:  # Any: see Handler
        try:
            return await handler.function(context, payload)
        except Exception as error:
            errors[context.id] = error
            raise

    return replace(handler, function=function)
