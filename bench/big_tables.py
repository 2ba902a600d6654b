"""`python -m bench.big_tables`: every list, filter and count of jobs on tables as large as after a year.

Each query runs as in the API, through its repository on the read engine, `--times` times after one that warms the
caches. `--scale 0.1` seeds a tenth. The line of a list says how many jobs it found, and whether it ended early.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app_db import Database, Session, open_database
from app_db.jobs import control
from app_db.jobs.control import Action
from app_db.jobs.filters import JobFilter
from app_db.models import JobState
from app_db.repositories.jobs import JobRepository
from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_runtime.testing.servers import PostgresServer
from bench.big_tables_seed import seed
from bench.jobs_place import ROOT, quantile, say

KINDS = (None, "email.welcome", "email.notice", "seldom.kind", "misspelt.kind")
QUEUES = (None, "default", "mail", "empty")
PAGE = 20

type Ask = Callable[[Session], Awaitable[Any]]


def lists() -> Iterator[tuple[str, Ask]]:
    """Yield every combination of filters, with its query."""
    for state, kind, queue in product((None, *JobState), KINDS, QUEUES):
        given = {"state": state, "kind": kind, "queue": queue}
        name = " ".join(f"{key}={value}" for key, value in given.items() if value is not None)
        yield f"jobs {name}", _list(JobFilter(state=state, kind=kind, queue=queue))


def _list(job_filter: JobFilter) -> Ask:
    return lambda session: JobRepository(session).matching(job_filter, after=None, limit=PAGE)


def counts() -> Iterator[tuple[str, Ask]]:
    """Yield the counts that operators are offered."""
    yield "queues", lambda session: JobRepository(session).queues()
    yield "stats", lambda session: JobRepository(session).stats()


def actions() -> Iterator[tuple[str, Ask]]:
    """Yield the actions on many jobs at once, for filters that match few; `measure` rolls them back."""
    misspelt, empty = JobFilter(kind="misspelt.kind"), JobFilter(queue="empty")
    seldom, retryable = JobFilter(kind="seldom.kind"), JobFilter(state=JobState.RETRYABLE)
    for action, job_filter in product(Action, (misspelt, empty, seldom, retryable)):
        yield (
            f"{action} {job_filter.state or ''} {job_filter.kind or ''} {job_filter.queue or ''}",
            _act(action, job_filter),
        )


def _act(action: Action, job_filter: JobFilter) -> Ask:
    return lambda session: control.act_on_all(session, job_filter, action)


async def measure(database: Database, name: str, ask: Ask, *, times: int, writes: bool = False) -> float:
    """Run a query `times` times, print a line, and return the milliseconds that one in a hundred exceeds."""
    took, used, answer = [], [], None
    for _ in range(times + 1):
        async with (database.sessions if writes else database.read_sessions)() as session:
            pid = await session.scalar(text("SELECT pg_backend_pid()"))
            before, cpu = time.perf_counter(), _cpu(pid)
            try:
                answer = await ask(session)
            except DBAPIError as error:
                print(f"{name:60} no answer: {str(error.orig).rpartition(': ')[2]}", flush=True)
                return inf
            took.append((time.perf_counter() - before) * 1000)
            used.append(_cpu(pid) - cpu)
            if writes:
                await session.rollback()
    rows = getattr(answer, "items", None)
    found = "" if rows is None else f"{len(rows):3} rows{', ended early' if getattr(answer, 'partial', False) else ''}"
    p50, p99 = quantile(took[1:], 0.5), quantile(took[1:], 0.99)
    cpu_ms = quantile(used[1:], 0.5)
    print(f"{name:60} p50 {p50:8.2f} ms  p99 {p99:8.2f} ms  CPU {cpu_ms:7.2f} ms  {found}", flush=True)
    return p99


def _cpu(pid: int) -> float:
    """Return the milliseconds that a session of Postgres has been on a CPU, which do not depend on other load."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


async def ask_all(url: str, *, times: int) -> None:
    """Run all queries on a seeded database."""
    settings = DatabaseSettings.model_validate({"url": url})
    async with open_database(settings, name="bench") as database:
        worst = [await measure(database, name, ask, times=times) for name, ask in (*lists(), *counts())]
        for name, ask in actions():
            worst.append(await measure(database, name, ask, times=max(1, times // 5), writes=True))
    print(f"\n{len(worst)} questions; the slowest p99 is {max(worst):.1f} ms, {sum(p > 10 for p in worst)} above 10 ms")


async def main() -> None:
    """Seed a temporary server, and run all queries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--url", help="of a database that was seeded before, instead of a server of its own")
    options = parser.parse_args()
    if options.url:
        await ask_all(options.url, times=options.times)
        return
    with PostgresServer.temporary() as postgres:
        url = await databases.recreate(postgres.url("postgres"), "app_bench_test")
        await databases.migrate(url, root=ROOT)
        connection = await asyncpg.connect(DatabaseSettings.model_validate({"url": url}).direct_dsn)
        say("seeding")
        await seed(connection, scale=options.scale)
        await connection.close()
        await ask_all(url, times=options.times)


if __name__ == "__main__":
    asyncio.run(main())
