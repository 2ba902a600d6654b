"""Running jobs in a test, with the real runner on a real database."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import select, text

from app_auth.one_time import OneTimeTokens
from app_db import Database, open_database
from app_db.jobs import claims
from app_db.jobs.ledger import Delivery
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.models import Job, JobError
from app_db.settings import DatabaseSettings
from app_db.types import new_id
from app_runtime.testing.base import Server
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import ValkeyServer
from app_runtime.valkey import ValkeySettings
from app_worker.context import JobContext
from app_worker.delivery_queue import DeliveryQueue, Valkey, connect
from app_worker.executor import Executor
from app_worker.mail import Mails, MemoryMailer
from app_worker.metrics import Metrics
from app_worker.registry import Handler, Mode, Registry, handles
from app_worker.runner import Runner
from app_worker.testing import one_time_settings

LEASE = timedelta(seconds=15)
PATIENCE = 45.0
"""Seconds after which a test gives up waiting. No test asserts how long anything took."""

type MakeRunner = Callable[..., Runner]


class Note(JobPayload):
    """The job of these tests."""

    kind = "test.note"
    text: str = "hello"


@handles(Note, mode=Mode.LEASE, timeout=timedelta(hours=1))
async def endless(job: JobContext, payload: Note) -> None:
    """Run until it is cancelled."""
    await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class Jobs:
    """Enqueues, claims and reads jobs in place of relay and operator."""

    database: Database

    async def enqueue(self, payload: JobPayload | None = None, **options: Any) -> UUID:
        async with self.database.sessions.begin() as session:
            return await enqueue(session, payload or Note(), **options)

    async def deliver(self, payload: JobPayload | None = None, **options: Any) -> Delivery:
        """Enqueue a job and claim it."""
        return await self.dispatch(await self.enqueue(payload, **options))

    async def dispatch(self, job_id: UUID) -> Delivery:
        """Make a job due, even if it was delivered before, and claim it."""
        async with self.database.sessions.begin() as session:
            await session.execute(text("UPDATE jobs SET claim_at = now() WHERE id = :id"), {"id": job_id})
            (delivery,) = (await claims.claim(session, queue="default", max_jobs=1, lease=LEASE)).deliveries
            return delivery

    async def get(self, job: UUID | Delivery) -> Job:
        async with self.database.read_sessions() as session:
            return await session.get_one(Job, job.id if isinstance(job, Delivery) else job)

    async def errors(self, delivery: Delivery) -> list[JobError]:
        async with self.database.read_sessions() as session:
            return list(await session.scalars(select(JobError).where(JobError.job_id == delivery.id)))

    async def scalar(self, query: str) -> Any:
        async with self.database.read_sessions() as session:
            return (await session.scalars(text(query))).one()

    async def execute(self, statement: str) -> None:
        async with self.database.sessions.begin() as session:
            await session.execute(text(statement))


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


@pytest.fixture
def make_runner(database: Database, mailer: MemoryMailer) -> MakeRunner:
    """Make the runner of a worker that has these handlers, and no others."""

    def make(*handlers: Handler, database: Database = database, lease: timedelta = LEASE) -> Runner:
        tokens = OneTimeTokens(one_time_settings())
        mails = Mails(mailer, "Groundwork <hello@groundwork.test>", "https://groundwork.test/", tokens)
        registry = Registry(handlers, catalog=())
        metrics = Metrics(kinds=registry.by_kind, queues=["default"])
        return Runner(database, registry, mails, new_id(), lease, metrics)

    return make


@pytest_asyncio.fixture(loop_scope="session")
async def valkey(valkey_url: str) -> AsyncIterator[Valkey]:
    """A client of an empty Valkey."""
    async with connect(ValkeySettings.model_validate({"url": valkey_url, "timeout": timedelta(seconds=10)})) as client:
        await client.flushall()
        yield client


@pytest.fixture
def delivery_queue(valkey: Valkey) -> DeliveryQueue:
    """The empty delivery queue of the queue `default`."""
    return DeliveryQueue(valkey, "default")


@pytest.fixture
def mortal_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey that may be stopped, frozen and started again at the same address."""
    with ValkeyServer(tmp_path_factory.mktemp("valkey"), port=free_port(), durable=False) as server:
        yield server


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Let a server keep its connections and answer nothing during the block."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def open_executor(
    delivery_queue: DeliveryQueue,
    run: Callable[[Delivery], Awaitable[None]],
    *,
    slots: int = 1,
    timeout: timedelta = timedelta(seconds=30),
    poll: timedelta = timedelta(milliseconds=10),
) -> Executor:
    return Executor(delivery_queue, slots=slots, timeout=timeout, run=run, poll=poll)


@asynccontextmanager
async def running(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let loops that never end run during the block."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@asynccontextmanager
async def working(*executors: Executor) -> AsyncIterator[None]:
    """Let executors run their deliveries during the block."""
    tasks = [asyncio.create_task(executor.work(grace=timedelta(0))) for executor in executors]
    try:
        yield
    finally:
        for executor in executors:
            executor.stop()
        await asyncio.gather(*tasks)


async def eventually(look: Callable[[], Awaitable[Any]]) -> None:
    """Return as soon as `look` returns a true value; raise TimeoutError after PATIENCE."""
    async with asyncio.timeout(PATIENCE):
        while not await look():  # noqa: ASYNC110  # it happens in another process
            await asyncio.sleep(0.005)


async def are_waiting(jobs: Jobs, count: int) -> bool:
    """Whether `count` transactions of this database wait for a lock."""
    waiting = "datname = current_database() AND wait_event_type = 'Lock'"
    return int(await jobs.scalar(f"SELECT count(*) FROM pg_stat_activity WHERE {waiting}")) == count


async def until(condition: Callable[[], Any]) -> None:
    """As `eventually`, for a condition that needs no `await`."""

    async def look() -> bool:
        return bool(condition())

    await eventually(look)


@pytest_asyncio.fixture(loop_scope="session")
async def other_database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """The same database, as another worker process opens it."""
    async with open_database(database_settings, name="other") as database:
        yield database
