"""Fixtures of the fault tests: `start_worker` starts workers that can run the jobs of jobs.py.

With `-s`, each test that accepts jobs prints how many, and what became of them (figures.py).
"""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from app_db import Database
from tests.e2e.chaos.figures import counted, show
from tests.e2e.chaos.jobs import CREATE_TABLES, DROP_TABLES
from tests.e2e.chaos.site import environment
from tests.e2e.conftest import Environment
from tests.e2e.processes import Process, connected

type StartWorker = Callable[..., Process]


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def tables(database: Database, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Create the tables that the jobs write to, and count their rows after the test."""
    async with connected(database.settings.direct_dsn) as connection:
        await connection.execute(CREATE_TABLES)
    yield
    if (counts := await counted(database.settings.direct_dsn))["committed"]:
        show(request.node.name, counts)
    async with connected(database.settings.direct_dsn) as connection:
        await connection.execute(DROP_TABLES)


@pytest.fixture
def start_worker(worker_environment: Environment, tables: None, tmp_path: Path) -> Iterator[StartWorker]:
    """Start one more worker; keyword arguments are environment variables that differ."""
    workers: list[Process] = []
    told = {
        **worker_environment,
        **environment(worker_environment["APP_DATABASE__URL"], worker_environment["APP_REDIS__URL"]),
    }

    def start(*, ready: str = "worker_started", **different: str) -> Process:
        log = tmp_path / f"worker-{len(workers)}.log"
        workers.append(Process("tests.e2e.chaos.worker", ready=ready, env={**told, **different}, log=log))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.is_running():
            worker.signal(signal.SIGCONT)
            assert worker.stop() == 0, worker.output
