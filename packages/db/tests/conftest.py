"""Fixtures for several test modules of this package."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import func, text

from app_db import Database, Session, open_database
from app_db.jobs import limit_control
from app_db.jobs.notifier import Notifier
from app_db.models import Job, JobState
from app_db.settings import DatabaseSettings
from app_db.types import new_id

from . import large_jobs
from .ledger_steps import PAST, MakeJob
from .limited_jobs import Call, Mail, Plain
from .shared_calls import call

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]
type EndBackend = Callable[[int], Awaitable[None]]
type Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture
def open_with(database: Database, database_settings: DatabaseSettings) -> OpenWith:
    """Open the test's database a second time, with some settings changed."""

    @asynccontextmanager
    async def open_(**changes: Any) -> AsyncIterator[Database]:  # Any: fields of DatabaseSettings
        settings = DatabaseSettings.model_validate(database_settings.model_dump() | changes)
        async with open_database(settings, name="second") as second:
            yield second

    return open_


@pytest.fixture
def end_backend(database: Database) -> EndBackend:
    """End a server process, as a restart or a fail-over does, and return once it has gone."""

    async def end(pid: int) -> None:
        async with database.engine.connect() as connection:
            ended = await connection.scalar(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        assert ended, f"backend {pid} did not end"

    return end


@pytest.fixture
def until() -> Until:
    """Return a function that waits for up to 90 s until a condition holds."""

    async def wait(holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(45):
            while not await holds():  # noqa: ASYNC110  # another process sets no event of ours
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
async def notifier(database: Database) -> AsyncIterator[Notifier]:
    """A second notifier, beside the one of `database`."""
    notifier = Notifier(database.settings.direct_dsn, connect_timeout=timedelta(seconds=5))
    yield notifier
    await notifier.close()


@pytest.fixture
def refusing_url() -> Iterator[str]:
    """A URL on which nothing listens; a bound socket reserves the port, so that no server can start there."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"postgresql://nobody:nothing@127.0.0.1:{held.getsockname()[1]}/none_test"


@pytest.fixture
def make_job(database: Database) -> MakeJob:
    """Return a factory of committed jobs that are due by default."""

    async def make(*, due_in: timedelta | None = PAST, **columns: Any) -> UUID:  # Any: columns of Job
        job_id = new_id()
        defaults = {"kind": "test", "payload": {"n": 1}, "payload_version": 1, "state": JobState.AVAILABLE}
        claim_at = None if due_in is None else func.now() + due_in
        async with database.sessions.begin() as session:
            session.add(Job(**{"id": job_id, "claim_at": claim_at, **defaults, **columns}))
        return job_id

    return make


@pytest.fixture
async def declared_limits(database: Database) -> None:
    """Declare the limits as a worker does when it starts."""
    async with database.sessions.begin() as session:
        await limit_control.declare(session, [Call, Mail, Plain])


@pytest.fixture
async def second(open_with: OpenWith) -> AsyncIterator[Database]:
    """The test's database with a count of its own; its connection is open, and calls have had company."""
    async with open_with() as second:
        await asyncio.gather(*(call(second) for _ in range(3)))
        second.gathered.clear()
        yield second


@pytest_asyncio.fixture(loop_scope="session")
async def patient(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """The database of the test, without limits: filling it takes seconds on a busy machine."""
    limits = {"statement_timeout": timedelta(0), "command_timeout": None}
    async with open_database(database_settings.model_copy(update=limits), name="patient") as database:
        yield database


@pytest_asyncio.fixture(loop_scope="session")
async def large(patient: Database) -> AsyncIterator[Session]:
    """A session whose open transaction has a table of many jobs, which no other session ever sees."""
    async with patient.sessions() as session:
        await session.execute(large_jobs.SEED, {"rows": large_jobs.ROWS, "owner": large_jobs.OWNER})
        await session.execute(text("ANALYZE jobs"))
        yield session
        await session.rollback()


@pytest_asyncio.fixture(loop_scope="session", params=[0, 100])
async def grown(patient: Database, request: pytest.FixtureRequest) -> AsyncIterator[Session]:
    """As `large`, with statistics of when there were no jobs, or 100."""
    async with patient.sessions() as session:
        await session.execute(text("TRUNCATE jobs CASCADE"))
        await session.execute(large_jobs.SEED, {"rows": request.param, "owner": large_jobs.OWNER})
        await session.execute(text("ANALYZE jobs"))
        await session.execute(large_jobs.SEED, {"rows": large_jobs.ROWS, "owner": large_jobs.OWNER})
        yield session
        await session.rollback()
