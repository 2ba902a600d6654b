"""Sections that take minutes: a reader that keeps Postgres from vacuuming (fault 17), indexes and fillfactor, crons.

The crons tick each second, while one of three workers is frozen (fault 15).
"""

import asyncio
import signal
import time
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from app_db import Database, open_database
from app_db.jobs import claims
from bench.jobs_costs import CLAIM, DAY, LEASE, Times
from bench.jobs_place import Place, say
from bench.jobs_rates import HEADER, ours, warm_up
from tests.e2e.chaos.figures import counted_ticks, show
from tests.e2e.clock_worker import CRONS

BASELINE = 120.0
"""Seconds, at the most, of the run without the reader."""
MINUTE = 60.0
SETTLED = 10.0
"""Seconds in which workers start, or resume, and tick."""
VARIANTS: dict[str, tuple[str, str]] = {
    "as it is": ("SELECT", "SELECT"),
    "fillfactor 100": ("ALTER TABLE jobs SET (fillfactor = 100)", "ALTER TABLE jobs SET (fillfactor = 70)"),
}
"""A statement that changes the table, and one that changes it back. `storage` adds a variant for each index."""
_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename = 'jobs' AND indexname NOT IN ('pk_jobs', 'ix_jobs_claim') ORDER BY indexname
"""
# Counting the rows would cost more and more; this is a second late.
_DONE = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'bench_effects'"


async def storage(place: Place, *, jobs: int, environment: dict[str, str]) -> None:
    """Run both modes without each index in turn (one worker process), and with full pages."""
    print(HEADER)
    variants = dict(VARIANTS)
    for name, definition in await place.connection.fetch(_INDEXES):
        variants[f"no {name}"] = (f"DROP INDEX {name}", definition)
    for variant, (change, change_back) in variants.items():
        await place.empty()
        await place.connection.execute(change)
        for mode, kind in {"tx": "bench.effect", "lease": "bench.nothing"}.items():
            rate = await ours(place, f"{mode}, {variant}", kind, jobs=jobs, count=1, environment=environment)
            print(rate.line(), flush=True)
        await place.empty()
        await place.connection.execute(change_back)


@dataclass(frozen=True)
class BesideAReader:
    """The effect of the reader on the queue."""

    claim_p99: float
    """Milliseconds, over the whole time."""
    throughput_ratio: float
    """Jobs per second in the last minute, divided by those without the reader."""


@dataclass(frozen=True)
class Span:
    """Some time under load."""

    per_second: float
    claims: Times


async def reader(
    place: Place, *, scheduled: int, backlog: int, seconds: float, environment: dict[str, str]
) -> BesideAReader:
    """Work through a backlog that is kept full, first alone and then beside a transaction that reads and stays open."""
    await place.empty()
    for done in range(0, scheduled, 100_000):
        say(f"reader: {done} of {scheduled} scheduled rows")
        await place.seed("bench.effect", min(100_000, scheduled - done), due_in=DAY)
    await place.connection.execute("VACUUM ANALYZE jobs", timeout=600)
    settings = place.settings.model_copy(update={"command_timeout": None})
    async with open_database(settings, name="bench") as database:
        with place.processes("bench.jobs_worker", environment=environment):
            await warm_up(place, "bench.effect", 1)
            await place.seed("bench.effect", backlog)
            await place.notify()
            alone = await _loaded(place, database, min(BASELINE, seconds), backlog, "alone")
            other = await asyncpg.connect(place.settings.direct_dsn)
            snapshot = other.transaction(isolation="repeatable_read", readonly=True)
            await snapshot.start()
            await other.fetchval("SELECT count(*) FROM job_queues")
            spans = [
                await _loaded(place, database, min(MINUTE, seconds), backlog, f"minute {minute + 1}")
                for minute in range(max(1, round(seconds / MINUTE)))
            ]
            await snapshot.rollback()
            await other.close()
            await place.connection.execute("DELETE FROM jobs WHERE state = 'available'", timeout=600)
    claims = Times([milliseconds for span in spans for milliseconds in span.claims.milliseconds])
    return BesideAReader(claims.p99, spans[-1].per_second / alone.per_second)


async def _loaded(place: Place, database: Database, seconds: float, backlog: int, name: str) -> Span:
    """Keep the backlog full; each quarter of a second, time a claim as the relay makes it, and roll it back."""
    taken: list[float] = []
    since: datetime | None = None
    done = before = int(await place.connection.fetchval(_DONE))
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        await asyncio.sleep(0.25)
        async with database.sessions() as session:
            if len(taken) % 12 == 0:  # every three seconds, as often as a relay looks for the oldest due job
                since = await claims.oldest_due(session, "default")
            _ = await session.connection()  # so that the time is that of the claim alone
            began = time.perf_counter()
            await claims.claim(session, queue="default", max_jobs=CLAIM, lease=LEASE, since=since)
            taken.append((time.perf_counter() - began) * 1e3)
        if len(taken) % 20 == 0:
            now_done = int(await place.connection.fetchval(_DONE))
            await place.seed("bench.effect", now_done - done)
            done = now_done
    per_second = (int(await place.connection.fetchval(_DONE)) - before) / (time.monotonic() - start)
    dead = await place.connection.fetchval("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'jobs'")
    times = Times(taken)
    print(f"{name:10} {per_second:6.0f} jobs/s, claim of {CLAIM}: {times}; {dead} dead rows of jobs", flush=True)
    return Span(per_second, times)


async def ticks(place: Place, *, frozen: float) -> dict[str, dict[str, int]]:
    """Freeze the first of three workers, which leads, and return the counts of ticks of each cron."""
    await place.empty()
    await place.connection.execute("DELETE FROM job_crons")
    with place.processes("tests.e2e.clock_worker", environment={}) as first:
        await asyncio.sleep(SETTLED)
        with place.processes("tests.e2e.clock_worker", count=2, environment={}):
            await asyncio.sleep(SETTLED)
            first[0].send_signal(signal.SIGSTOP)
            say(f"ticks: one of three workers is frozen for {frozen:.0f} s")
            await asyncio.sleep(frozen)
            first[0].send_signal(signal.SIGCONT)
            await asyncio.sleep(SETTLED)
    found = {cron.name: await counted_ticks(place.settings.direct_dsn, cron.name) for cron in CRONS}
    for cron in CRONS:
        show(f"{cron.name}, catch_up={cron.catch_up}", found[cron.name])
    return found
