"""The time until jobs go on after a loss, with real processes and signals, and with the default settings."""

import asyncio
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from app_db import open_database
from app_db.jobs import control
from app_worker.settings import JobSettings
from bench.jobs_place import say
from tests.e2e.chaos.jobs import LeaseEffect, Owed, TxEffect, accept
from tests.e2e.chaos.site import Site
from tests.e2e.processes import Process, until

SHIPPED = JobSettings()
LEASE, GRACE = SHIPPED.lease.total_seconds(), SHIPPED.grace.total_seconds()
IN_THE_WAY = ("APP_WORKER__LEASE", "APP_WORKER__GRACE", "APP_LOG__LEVEL")
LONG = 30.0
"""Seconds that an interrupted job would take."""
DOWN = 10.0
"""Seconds for which a server is down."""
PATIENCE = 90.0
STARTS = "SELECT count(*) >= $2 AS it_is FROM chaos_starts WHERE job_id = $1"
ENDED = "SELECT count(*) >= $2 AS it_is FROM jobs WHERE id = $1 AND finished_at IS NOT NULL"


@dataclass(frozen=True)
class Figure:
    """A recovery, the seconds that it took, and the most that it may take."""

    what: str
    seconds: float
    bound: float


async def recovery() -> list[Figure]:
    """Break one thing after the other, each with workers and an empty ledger of its own."""
    figures: list[Figure] = []
    for measure in (_kill, _freeze, _lose_postgres, _lose_valkey, _tell_to_end, _cancel):
        say(f"recovery: {measure.__name__}")
        with tempfile.TemporaryDirectory() as folder:
            async with Site(Path(folder), workers=0, accepting=False) as site:
                for name in IN_THE_WAY:
                    del site.environment[name]
                figures += await measure(site)
    return figures


async def _kill(site: Site) -> list[Figure]:
    worker = await _start(site)
    leased, plain = await _running(site, LeaseEffect(seconds=LONG)), await _running(site, TxEffect(seconds=LONG))
    await _start(site)
    worker.kill()
    lost = time.monotonic()
    site.workers.remove(worker)
    seconds = await asyncio.gather(*(_since(lost, site, STARTS, job_id, 2) for job_id in (leased, plain)))
    return [
        Figure("kill -9 of a worker: its lease job starts again", seconds[0], LEASE),
        Figure("kill -9 of a worker: its tx job starts again", seconds[1], LEASE),
    ]


async def _freeze(site: Site) -> list[Figure]:
    """The worker leads the queue, which is the worst case."""
    worker = await _start(site)
    job_id = await _running(site, LeaseEffect(seconds=LONG))
    await _start(site)
    worker.signal(signal.SIGSTOP)
    seconds = await _since(time.monotonic(), site, STARTS, job_id, 2)
    return [Figure("SIGSTOP of a worker: its lease job starts again", seconds, LEASE)]


async def _lose_postgres(site: Site) -> list[Figure]:
    await _start(site)
    job_id = await _accept(site, TxEffect(seconds=0.01), due_in=DOWN / 2)
    site.postgres.stop()
    await asyncio.sleep(DOWN)
    site.postgres.start()
    seconds = await _since(time.monotonic(), site, STARTS, job_id)
    return [Figure(f"Postgres back after {DOWN:.0f} s: the first job starts", seconds, 5)]


async def _lose_valkey(site: Site) -> list[Figure]:
    await _start(site)
    job_id = await _accept(site, TxEffect(seconds=0.01), due_in=DOWN / 2)
    os.kill(site.valkey.pid, signal.SIGKILL)
    site.valkey.stop()
    await asyncio.sleep(DOWN)
    site.valkey.start()
    seconds = await _since(time.monotonic(), site, STARTS, job_id)
    return [Figure(f"Valkey back, empty, after {DOWN:.0f} s: the first job starts", seconds, LEASE)]


async def _tell_to_end(site: Site) -> list[Figure]:
    worker = await _start(site)
    for payload in (LeaseEffect(seconds=LONG), TxEffect(seconds=LONG)):
        await _running(site, payload)
    told = time.monotonic()
    exit_code = await asyncio.to_thread(worker.stop)
    seconds = time.monotonic() - told
    if exit_code:
        raise RuntimeError(worker.output[-4000:])
    return [Figure("SIGTERM, two jobs of 30 s run: the worker has ended", seconds, GRACE + 2)]


async def _cancel(site: Site) -> list[Figure]:
    await _start(site)
    job_id = await _running(site, LeaseEffect(seconds=LONG))
    async with open_database(site.settings, name="bench") as database:
        async with database.sessions.begin() as session:
            await control.cancel(session, job_id)
        seconds = await _since(time.monotonic(), site, ENDED, job_id)
    return [Figure("a running job is cancelled: it has ended", seconds, 1)]


async def _start(site: Site) -> Process:
    worker = site.start_worker()
    site.workers.append(worker)
    await until(lambda: worker.has_logged("worker_started"), "the worker runs")
    return worker


async def _accept(site: Site, payload: Owed, *, due_in: float = 0) -> UUID:
    async with open_database(site.settings, name="bench") as database, database.sessions.begin() as session:
        return await accept(session, payload, run_at=datetime.now(UTC) + timedelta(seconds=due_in))


async def _running(site: Site, payload: Owed) -> UUID:
    job_id = await _accept(site, payload)
    await _since(time.monotonic(), site, STARTS, job_id)
    return job_id


async def _since(began: float, site: Site, query: str, job_id: UUID, count: int = 1) -> float:
    """Wait until the query is true, and return the seconds since `began`."""
    async with asyncio.timeout(PATIENCE):
        while not (await site.ask(query, job_id, count))[0]["it_is"]:  # noqa: ASYNC110  # it happens elsewhere
            await asyncio.sleep(0.02)
    return time.monotonic() - began
