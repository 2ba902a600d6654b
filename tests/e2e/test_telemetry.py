"""The port of a worker process, as Prometheus and an orchestrator use it."""

import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from httpx2 import AsyncClient, TimeoutException
from sqlalchemy import text

from app_db import Database
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.outbox import enqueue
from app_runtime.testing.processes import free_port

from .conftest import StartWorker
from .processes import Worker, eventually


@pytest.fixture
def port() -> str:
    return str(free_port())


@pytest.fixture
def watched(start_worker: StartWorker, port: str) -> Worker:
    """A worker that serves /metrics and /health."""
    return start_worker(APP_METRICS__ENABLED="true", APP_METRICS__PORT=port)


@pytest_asyncio.fixture(loop_scope="session")
async def probe(watched: Worker, port: str) -> AsyncIterator[AsyncClient]:
    """A client of that port."""
    async with AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=90) as client:
        yield client


async def test_a_worker_counts_the_jobs_that_it_runs(probe: AsyncClient, database: Database) -> None:
    async with database.sessions.begin() as session:
        await enqueue(session, PruneSessions())

    async def is_counted() -> bool:
        lines = (await probe.get("/metrics")).text.splitlines()
        return 'app_jobs_finished_total{kind="sessions.prune",outcome="completed"} 1.0' in lines

    await eventually(is_counted, "the job was counted")


async def test_a_frozen_worker_does_not_answer_until_it_goes_on(watched: Worker, probe: AsyncClient) -> None:
    watched.signal(signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutException):
            await probe.get("/health", timeout=1)
    finally:
        watched.signal(signal.SIGCONT)

    await eventually(lambda: is_status(probe, 200), "the worker is well again")


async def test_a_worker_that_the_database_does_not_hear_is_not_well(probe: AsyncClient, database: Database) -> None:
    async with database.sessions.begin() as session:
        await session.execute(text("LOCK TABLE job_workers IN ACCESS EXCLUSIVE MODE"))

        await eventually(lambda: is_status(probe, 503), "the worker says that it cannot beat")

    await eventually(lambda: is_status(probe, 200), "the worker is well again")


async def is_status(probe: AsyncClient, expected: int) -> bool:
    return (await probe.get("/health")).status_code == expected
