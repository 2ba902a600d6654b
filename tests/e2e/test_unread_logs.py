"""A log that nobody reads: standard error is a pipe that is full, and everything goes on.

Reported of others: a container whose log driver blocks stands still, answers no probe and heeds no SIGTERM
(moby/moby #22502; healthchecks #1177).
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient, TransportError
from sqlalchemy import func, select

from app_db import Database
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.outbox import enqueue_many
from app_db.models import Job, JobState
from app_db.settings import DatabaseSettings
from app_runtime.testing.processes import free_port, spawn
from tests.reads import LOGS

from .conftest import Environment, api_environment
from .http_site import NO_LIMITS
from .processes import PATIENCE, eventually

pytestmark = LOGS

REQUESTS = 6000
"""Each logs some 300 bytes: together more than the pipe and the queue in front of it hold."""
JOBS = 500

type Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `python -m …` with a pipe of one page as its output, which nobody reads."""
    with ExitStack() as stack:

        def start(*arguments: str, env: Environment) -> subprocess.Popen[bytes]:
            reader, writer = os.pipe()
            stack.callback(os.close, reader)
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
            process = spawn([sys.executable, "-m", *arguments], env={**inherited, **env}, cwd=tmp_path, output=writer)
            os.close(writer)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


async def answers(client: AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == HTTPStatus.OK
    except TransportError:
        return False


async def dropped(client: AsyncClient, port: int) -> float:
    text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    found = re.search(r"^app_log_lines_dropped_total (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    async with AsyncClient(timeout=90) as client:
        yield client


async def test_a_log_that_nobody_reads_holds_up_no_request(
    start: Start, client: AsyncClient, database: Database, database_settings: DatabaseSettings, valkey_url: str
) -> None:
    port, metrics = free_port(), free_port()
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url) | NO_LIMITS
    environment |= {"APP_HTTP__PORT": str(port), "APP_METRICS__ENABLED": "true", "APP_METRICS__PORT": str(metrics)}
    api = start("app_api", env=environment)
    url = f"http://127.0.0.1:{port}"
    await eventually(lambda: answers(client, f"{url}/probe/live"), "the API answers")

    for _ in range(REQUESTS):
        assert (await client.get(f"{url}/nowhere")).status_code == HTTPStatus.NOT_FOUND

    assert await answers(client, f"{url}/probe/live")
    assert await dropped(client, metrics) > 0
    api.send_signal(signal.SIGTERM)
    assert api.wait(PATIENCE) == 0


async def test_a_log_that_nobody_reads_holds_up_no_job(
    start: Start, client: AsyncClient, database: Database, worker_environment: Environment
) -> None:
    metrics = free_port()
    different = {"APP_LOG__LEVEL": "DEBUG", "APP_METRICS__ENABLED": "true", "APP_METRICS__PORT": str(metrics)}
    worker = start("app_worker", "run", env=worker_environment | different)

    async with database.unit_of_work() as session:
        await enqueue_many(session, [PruneSessions() for _ in range(JOBS)])

    async def done() -> Any:
        async with database.unit_of_work(read_only=True) as session:
            count = select(func.count()).select_from(Job).where(Job.state == JobState.COMPLETED)
            return (await session.scalars(count)).one() >= JOBS

    await eventually(done, "all jobs have run")
    assert await answers(client, f"http://127.0.0.1:{metrics}/health")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
