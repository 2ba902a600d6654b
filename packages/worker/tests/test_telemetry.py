"""The metrics and the health of a running worker."""

import asyncio
import importlib.metadata
import json
import socket
import time
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from structlog.testing import capture_logs
from structlog.typing import EventDict

from app_db import Database, open_database
from app_db.jobs import crons
from app_db.repositories.jobs import JobRepository
from app_db.settings import DatabaseSettings
from app_db.telemetry.collectors import RoleCollector
from app_db.testing.databases import AppRole
from app_runtime.telemetry.lag import LoopLag
from app_runtime.testing.processes import port_is_free
from app_worker.health import WorkerHealth
from app_worker.metrics import Metrics
from app_worker.settings import WorkerSettings
from app_worker.telemetry import PRUNES, pause_after, poll_ledger, telemetry
from app_worker.testing import one_time_settings

from .conftest import PATIENCE, Jobs, until

NEVER = timedelta(days=1)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(kinds=[], queues=[])


def settings_for(database: DatabaseSettings, **different: Any) -> WorkerSettings:
    return WorkerSettings.model_validate(
        {
            "auth": one_time_settings(),
            "database": database,
            "redis": {"url": "redis://127.0.0.1:1"},
            "metrics": {"enabled": True, "port": 0, **different},
            "worker": {"lease": 1},
        }
    )


def port_in(logs: list[EventDict]) -> int:
    (port,) = [event["port"] for event in logs if event["event"] == "telemetry_started"]
    return int(port)


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


async def test_nothing_listens_that_nobody_asked_for(database: Database, metrics: Metrics) -> None:
    settings = settings_for(database.settings, enabled=False)

    with capture_logs() as logs:
        async with telemetry(settings, database, metrics, WorkerHealth()):
            pass

    assert logs == []


async def test_a_loop_that_turns_is_seen_to_turn(database: Database, metrics: Metrics) -> None:
    health = WorkerHealth(loop=LoopLag(time.monotonic() - 60))

    with capture_logs() as logs:
        async with telemetry(settings_for(database.settings), database, metrics, health):
            await until(lambda: health.loop.seconds == 0)
            status, _ = await asyncio.to_thread(get, port_in(logs), "/live")

    assert status == 200


async def test_a_worker_whose_loop_is_blocked_says_so_itself(database: Database, metrics: Metrics) -> None:
    status, body, give_up = 0, b"", time.monotonic() + PATIENCE

    with capture_logs() as logs:
        async with telemetry(settings_for(database.settings), database, metrics, WorkerHealth()):
            while status != 503 and time.monotonic() < give_up:
                status, body = get(port_in(logs), "/live")  # without `await`: nothing else in this loop can run

    assert (status, json.loads(body)["detail"]) == (503, "The event loop is blocked.")


async def test_the_signs_of_life_are_metrics_too(database: Database, metrics: Metrics) -> None:
    with capture_logs() as logs:
        async with telemetry(settings_for(database.settings), database, metrics, WorkerHealth(running=3)):
            _, body = await asyncio.to_thread(get, port_in(logs), "/metrics")

    lines = body.decode().splitlines()
    assert "app_worker_jobs_running 3.0" in lines
    names = {line.split(" ")[0] for line in lines}
    assert {"app_worker_beat_age_seconds", "app_worker_loop_lag_seconds"} <= names


async def test_a_worker_that_has_stopped_does_not_listen(database: Database, metrics: Metrics) -> None:
    with capture_logs() as logs:
        async with (
            asyncio.timeout(PATIENCE),
            telemetry(settings_for(database.settings), database, metrics, WorkerHealth()),
        ):
            client = socket.create_connection(("127.0.0.1", port_in(logs)))

    # Not at once: a child process that another test starts may hold a copy of the socket until it calls exec.
    with client:
        await until(lambda: port_is_free(port_in(logs)))


async def test_the_queues_of_the_ledger_are_looked_at(database: Database, metrics: Metrics, jobs: Jobs) -> None:
    await jobs.enqueue(queue="mails")

    looking = asyncio.create_task(poll_ledger(database, metrics, poll=NEVER))
    await until(lambda: metrics.ledger.queues)
    looking.cancel()

    assert metrics.registry.get_sample_value("app_jobs_open", {"queue": "mails", "state": "available"}) == 1


async def test_figures_that_nobody_can_check_are_not_shown(database: Database, metrics: Metrics, jobs: Jobs) -> None:
    await jobs.enqueue()
    async with database.read_sessions() as session:
        metrics.ledger.queues = await JobRepository(session).queues()
    gone = database.settings.model_copy(update={"url": SecretStr("postgresql://nobody@127.0.0.1:1/gone")})

    with capture_logs() as logs:
        async with open_database(gone, name="worker") as unreachable:
            looking = asyncio.create_task(poll_ledger(unreachable, metrics, poll=timedelta(0)))
            await until(lambda: len(logs) > 1)  # it goes on looking
            looking.cancel()

    assert not metrics.ledger.queues
    assert {event["event"] for event in logs} == {"queues_not_seen"}


async def test_rows_that_wait_for_vacuum_are_shown(database: Database, metrics: Metrics) -> None:
    looking = asyncio.create_task(poll_ledger(database, metrics, poll=timedelta(0)))
    await until(lambda: metrics.ledger.dead_tuples is not None)
    metrics.ledger.dead_tuples = None
    await until(lambda: metrics.ledger.dead_tuples is not None)  # it looks again
    looking.cancel()

    assert metrics.registry.get_sample_value("app_job_dead_tuples") is not None


async def test_an_old_snapshot_is_shown_by_its_age(database: Database, metrics: Metrics) -> None:
    async with database.sessions() as reader, database.sessions() as writer:
        await reader.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        await reader.execute(text("SELECT FROM jobs"))
        for _ in range(5):
            await writer.execute(text("SELECT pg_current_xact_id()"))
            await writer.commit()
        looking = asyncio.create_task(poll_ledger(database, metrics, poll=timedelta(0)))
        await until(lambda: metrics.ledger.oldest_xmin_age is not None)
        looking.cancel()

    age = metrics.registry.get_sample_value("app_db_oldest_xmin_age")
    assert age is not None
    assert age >= 5


async def test_the_share_of_its_connections_that_a_role_uses_is_shown(
    database: Database, metrics: Metrics, modest_role: AppRole
) -> None:
    roles, name = RoleCollector(), modest_role.roles.app
    metrics.registry.register(roles)
    async with open_database(modest_role.settings, name="worker") as modest:
        looking = asyncio.create_task(poll_ledger(modest, metrics, roles, poll=timedelta(0)))
        await until(lambda: roles.shares)
        looking.cancel()

    used = metrics.registry.get_sample_value("app_db_role_in_use_ratio", {"role": name})
    assert used == 1 / modest_role.roles.connection_limit


async def test_the_age_of_the_last_prune_is_shown_and_an_old_one_is_not(database: Database, metrics: Metrics) -> None:
    async with database.sessions.begin() as session:
        await crons.cron_states(session, PRUNES)
    looking = asyncio.create_task(poll_ledger(database, metrics, poll=timedelta(0)))
    await until(lambda: metrics.ledger.prunes)
    looking.cancel()

    for kind in PRUNES:
        age = metrics.registry.get_sample_value("app_job_prune_age_seconds", {"kind": kind})
        assert age is not None
        assert 0 <= age < 3600


async def test_a_table_that_nobody_can_see_has_no_dead_rows(database: Database, metrics: Metrics) -> None:
    roles = RoleCollector()
    roles.shares = {"app": 1.0}
    metrics.ledger.dead_tuples = metrics.ledger.oldest_xmin_age = 7
    metrics.ledger.prunes = {PRUNES[0]: 1.0}
    gone = database.settings.model_copy(update={"url": SecretStr("postgresql://nobody@127.0.0.1:1/gone")})

    with capture_logs():
        async with open_database(gone, name="worker") as unreachable:
            looking = asyncio.create_task(poll_ledger(unreachable, metrics, roles, poll=NEVER))
            await until(lambda: metrics.ledger.dead_tuples is None)
            looking.cancel()

    assert not roles.shares
    assert metrics.registry.get_sample_value("app_job_dead_tuples") is None
    assert metrics.registry.get_sample_value("app_db_oldest_xmin_age") is None
    assert metrics.registry.get_sample_value("app_job_prune_age_seconds", {"kind": PRUNES[0]}) is None


@pytest.mark.parametrize(("seconds", "pause"), [(0.01, 15), (0.5, 49.5)])
def test_looking_at_a_large_ledger_is_rare(seconds: float, pause: float) -> None:
    assert pause_after(seconds, timedelta(seconds=15)) == pause


async def test_a_worker_says_what_it_is_made_of(database: Database, metrics: Metrics) -> None:
    with capture_logs():
        async with telemetry(settings_for(database.settings), database, metrics, WorkerHealth()):
            version = {"package": "app-worker", "version": importlib.metadata.version("app-worker")}

    assert metrics.registry.get_sample_value("app_build_info", version) == 1
