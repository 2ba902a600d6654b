"""A worker that can run no jobs holds up a rollout, and an outage restarts none (ADR-0022)."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote

import pytest
from httpx2 import AsyncClient
from redis.asyncio import Redis
from sqlalchemy import make_url

from app_db import Database
from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_runtime.testing.processes import free_port
from app_runtime.testing.servers import ValkeyServer

from .conftest import StartWorker
from .processes import Worker, connected, eventually, until
from .test_jobs import all_jobs_end, register

ROOT = Path(__file__).parents[2]
NEVER_HEARD = "No heartbeat has reached the database yet."
OLD_SCHEMA = "The schema is older than this release."
NO_VALKEY = "Valkey does not answer, so jobs wait."
FULL_VALKEY = "Valkey takes no deliveries, so jobs wait."


class Watched:
    """A worker with its port for probes."""

    def __init__(self, start: StartWorker, **different: str) -> None:
        self.port = str(free_port())
        self.worker: Worker = start(APP_METRICS__ENABLED="true", APP_METRICS__PORT=self.port, **different)

    async def complaint(self, path: str = "/health") -> str | None:
        """Return why the worker is not well, or None."""
        async with AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=90) as client:
            response = await client.get(path)
        if response.status_code == 200:
            return None
        assert response.status_code == 503
        return str(response.json()["detail"])

    async def comes_to(self, complaint: str | None) -> None:
        async def look() -> bool:
            return await self.complaint() == complaint

        await eventually(look, f"the health of the worker is {complaint!r}")


def with_wrong_password(url: str) -> str:
    return make_url(url).set(password="wrong").render_as_string(hide_password=False)


def without_server(url: str) -> str:
    return make_url(url).set(port=free_port()).render_as_string(hide_password=False)


@pytest.mark.parametrize("spoil", [with_wrong_password, without_server])
async def test_a_worker_without_a_first_beat_is_not_well(
    spoil: Callable[[str], str], database_settings: DatabaseSettings, start_worker: StartWorker
) -> None:
    watched = Watched(start_worker, APP_DATABASE__URL=spoil(database_settings.url.get_secret_value()))

    await until(lambda: watched.worker.has_logged("beat_failed"), "the worker has tried to beat")

    assert (await watched.complaint(), await watched.complaint("/live")) == (NEVER_HEARD, None)


@pytest.mark.parametrize("template", ["template0", databases.TEMPLATE])
async def test_a_worker_without_its_schema_is_not_well(
    template: str, postgres_server_url: str, worker_id: str, start_worker: StartWorker
) -> None:
    url = await databases.recreate(postgres_server_url, f"app_older_{worker_id}_test", template=template)
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    if template == databases.TEMPLATE:
        async with connected(dsn) as connection:
            await connection.execute("CREATE TABLE newer AS TABLE schema_history; TRUNCATE schema_history")
    watched = Watched(start_worker, APP_DATABASE__URL=url)

    await watched.comes_to(OLD_SCHEMA)

    assert await watched.complaint("/live") is None
    if template == databases.TEMPLATE:
        async with connected(dsn) as connection:
            await connection.execute("INSERT INTO schema_history TABLE newer")
        await watched.comes_to(None)


async def test_a_worker_without_valkey_is_not_well(start_worker: StartWorker, valkey: ValkeyServer) -> None:
    valkey.stop()
    watched = Watched(start_worker)

    await watched.comes_to(NO_VALKEY)

    assert await watched.complaint("/live") is None


async def test_an_outage_of_valkey_is_seen_and_its_end_too(start_worker: StartWorker, valkey: ValkeyServer) -> None:
    watched = Watched(start_worker)
    await watched.comes_to(None)

    valkey.stop()
    await watched.comes_to(NO_VALKEY)
    valkey.start()

    await watched.comes_to(None)


async def test_a_valkey_that_is_full_is_seen(
    http: AsyncClient, start_worker: StartWorker, valkey: ValkeyServer, database: Database
) -> None:
    watched = [Watched(start_worker, APP_WORKER__CONCURRENCY="1") for _ in range(2)]
    for each in watched:
        await each.comes_to(None)

    async def one_complains() -> bool:
        return FULL_VALKEY in [await each.complaint() for each in watched]

    async with Redis.from_url(valkey.url) as operator:
        await operator.config_set("maxmemory", "1")
        await asyncio.gather(*(register(http, f"ada{number}@example.test") for number in range(20)))
        await eventually(one_complains, "a worker whose deliveries are refused says so")
        await operator.config_set("maxmemory", "0")

    for each in watched:
        await each.comes_to(None)
    await all_jobs_end(database)


async def test_systemd_waits_for_a_worker_until_it_is_well(start_worker: StartWorker, valkey: ValkeyServer) -> None:
    valkey.stop()
    watched = Watched(start_worker)
    await watched.comes_to(NO_VALKEY)

    starting = start_post(watched)

    with pytest.raises(subprocess.TimeoutExpired):
        starting.wait(3)
    valkey.start()
    assert starting.wait(90) == 0


async def test_systemd_does_not_wait_for_a_worker_that_has_ended(start_worker: StartWorker) -> None:
    watched = Watched(start_worker)
    watched.worker.kill()

    assert start_post(watched).wait(90) == 1


def start_post(watched: Watched) -> subprocess.Popen[bytes]:
    """Run the ExecStartPost of the unit, as systemd would, for a worker that runs."""
    unit = (ROOT / "deploy/systemd/app-worker@.service").read_text()
    found = re.search(r"^ExecStartPost=/bin/sh -c '(.*)'$", unit, re.MULTILINE)
    assert found
    script = found[1].replace("$$", "$").replace("/opt/groundwork/worker/bin/python", quote(sys.executable))
    script = script.replace("/opt/groundwork/health.py", quote(str(ROOT / "deploy/health.py")))
    environment = {"MAINPID": str(watched.worker.pid), "APP_METRICS__PORT": watched.port, "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(["/bin/sh", "-c", script], env=environment)
