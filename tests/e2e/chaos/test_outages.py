"""A server goes away while jobs run, and comes back."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from app_db import Database
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from tests.e2e.chaos.conftest import StartWorker
from tests.e2e.chaos.figures import counted, show, wrong
from tests.e2e.chaos.fire import drain
from tests.e2e.chaos.jobs import LeaseEffect, TxEffect
from tests.e2e.chaos.observing import accepted, all_jobs_end, found_wrong, has_begun, seen
from tests.e2e.chaos.site import Site, environment
from tests.e2e.conftest import Environment
from tests.e2e.processes import eventually
from tests.reads import SITE_OF_JOBS

pytestmark = SITE_OF_JOBS

EFFECTS = "SELECT count(*) AS so_far FROM chaos_effects"
STARTED_AFTER = "SELECT max(extract(epoch FROM started_at - created_at)) FROM jobs"
END_SESSIONS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'worker'
"""
RECOVERY = 5
"""Most seconds from Postgres's return to the first effect of a job that was accepted since."""
POLL = 1
"""Seconds within which a job starts whose notification was lost."""
MARGIN = 1
"""Seconds more for a busy machine."""
SHORT_JOBS, SLOTS, FLUSHES = 300, 2, 10


def shut_down_fast(postgres: PostgresServer) -> None:
    """End all sessions and write all data."""
    postgres.stop()


def crash(postgres: PostgresServer) -> None:
    """End Postgres as a power failure would: only what is in its log survives."""
    os.kill(postgres.pid, signal.SIGQUIT)
    postgres.stop()


@pytest.mark.parametrize("end", [shut_down_fast, crash])
async def test_workers_go_on_after_postgres_came_back(  # fault 10
    tmp_path: Path, end: Callable[[PostgresServer], None]
) -> None:
    await go_on_after(end, Site(tmp_path, workers=2), name=test_workers_go_on_after_postgres_came_back.__name__)


async def go_on_after(end: Callable[[PostgresServer], None], place: Site, *, name: str) -> None:
    """End the Postgres of a place and start it again; `name` is that of the line of figures."""
    async with place as site:
        await more_effects(site)
        end(site.postgres)
        await asyncio.sleep(1)  # so that all processes notice
        site.postgres.start()
        is_back = time.monotonic()

        await more_effects(site)
        recovery = time.monotonic() - is_back
        await site.stop_accepting()
        await drain(site)

        site.check_that_all_live()
        counts = await counted(site.dsn, said_to_be_committed=site.said("committed"))
        show(f"{name}[{end.__name__}], {recovery:.1f} s", counts)
        assert wrong(counts) == {}
        assert recovery < RECOVERY


async def test_a_job_whose_sessions_were_ended_runs_again(  # fault 6
    database: Database, start_worker: StartWorker
) -> None:
    start_worker()
    for payload in (TxEffect(seconds=1), LeaseEffect(seconds=1)):
        await has_begun(database, await accepted(database, payload))

    ended = await seen(database, END_SESSIONS)

    await all_jobs_end(database)
    assert ended > 0
    assert await found_wrong(database) == {}


async def test_a_job_runs_although_its_producer_was_killed_right_after_the_commit(  # fault 8
    database: Database, start_worker: StartWorker, worker_environment: Environment, tmp_path: Path
) -> None:
    start_worker()
    producer = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.e2e.chaos.producer", "--die-after-commit",
        env={**os.environ, **environment(worker_environment["APP_DATABASE__URL"], "-")},
    )  # fmt: skip
    exit_code = await producer.wait()

    await all_jobs_end(database)
    assert exit_code == -signal.SIGKILL
    assert await seen(database, EFFECTS) == 1
    assert await seen(database, STARTED_AFTER) < POLL + MARGIN


async def test_jobs_that_valkey_forgets_again_and_again_cost_no_attempt(  # faults 3 and 21
    database: Database, start_worker: StartWorker, valkey: ValkeyServer
) -> None:
    for number in range(SHORT_JOBS):
        await accepted(database, LeaseEffect() if number % 2 else TxEffect())
    start_worker(APP_WORKER__CONCURRENCY=str(SLOTS))

    async with Redis.from_url(valkey.url) as client:
        for number in range(FLUSHES):
            await more_jobs_end(database, number * SHORT_JOBS // FLUSHES)
            await client.flushall()

    await all_jobs_end(database)
    assert await found_wrong(database) == {}
    assert await seen(database, "SELECT max(attempt) FROM jobs WHERE kind LIKE 'chaos.%'") == 1


async def more_effects(site: Site) -> None:
    """Wait until jobs that were accepted from now on have run."""
    ((so_far,),) = await site.ask("SELECT count(*) FROM chaos_rows")

    async def there_are_more() -> bool:
        return bool((await site.ask(EFFECTS))[0]["so_far"] > so_far)

    await eventually(there_are_more, "jobs run")


async def more_jobs_end(database: Database, number: int) -> None:
    """Wait until `number` jobs have ended."""

    async def they_are() -> bool:
        return bool(await seen(database, "SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL") >= number)

    await eventually(they_are, f"{number} jobs are through")
