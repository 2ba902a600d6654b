"""A run under fire: a producer accepts jobs all the time, a fault comes every second, and the outcome is counted."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random

from app_db import open_database
from tests.e2e.chaos.faults import WEIGHTS, Fault, flush_valkey
from tests.e2e.chaos.figures import Figures, counted
from tests.e2e.chaos.jobs import LeaseEffect, accept_many
from tests.e2e.chaos.site import Site
from tests.e2e.processes import until

WORKERS = 3
SHORTEST_PAUSE, LONGEST_PAUSE = 0.3, 1.2
"""Seconds between two faults."""
DRAIN_SECONDS = 60
NOTHING_IS_OPEN = """
    SELECT NOT EXISTS (SELECT FROM jobs WHERE finished_at IS NULL)
        AND NOT EXISTS (SELECT FROM job_batches WHERE ended_at IS NULL) AS it_is
"""


async def run_under_fire(
    folder: Path,
    *,
    seconds: float,
    seed: int,
    longest_outage: float | None = None,
    place: type[Site] = Site,
    weights: Mapping[Fault, int] = WEIGHTS,
) -> Figures:
    """Inject a fault every 0.3 to 1.2 s for `seconds`, then let all jobs end and count.

    Valkey is down for up to `longest_outage` seconds at a time, by default for a twentieth of the run. If it is given,
    the jobs accepted during an outage are a long backlog, and draining may take `seconds` longer.

    Raises:
        AssertionError: when a process ended that no fault had killed.
    """
    chance = Random(seed)
    faults: Counter[str] = Counter()
    patience = DRAIN_SECONDS + (seconds if longest_outage else 0)
    async with place(folder, workers=WORKERS, longest_outage=longest_outage or max(1.0, seconds / 20)) as site:
        await until(lambda: site.said("committed"), "jobs are accepted")  # else a slow machine would prove nothing
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(chance.uniform(SHORTEST_PAUSE, LONGEST_PAUSE))
            site.check_that_all_live()
            site.thaw()
            (fault,) = chance.choices(list(weights), list(weights.values()))
            faults[fault.__name__] += 1
            await fault(site, chance)
        await site.stop_accepting()
        site.thaw(all_of_them=True)
        drain_seconds = await drain(site, patience=patience)
        site.check_that_all_live()
        counts = await counted(site.dsn, said_to_be_committed=site.said("committed"))
        return Figures(counts, len(site.said("rolled")), faults, drain_seconds)


async def run_forgotten(folder: Path, *, jobs: int, seconds: float, slots: int, flushes: int) -> Figures:
    """Empty Valkey again and again while jobs wait there for longer than a lease: no job may lose an attempt."""
    whole_run = jobs * seconds / slots
    async with Site(folder, workers=0, accepting=False) as site:
        async with open_database(site.settings, name="producer") as database, database.sessions.begin() as session:
            await accept_many(session, [LeaseEffect(seconds=seconds) for _ in range(jobs)])
        site.workers.append(site.start_worker(APP_WORKER__CONCURRENCY=str(slots), APP_WORKER__LEASE="PT15S"))
        for _ in range(flushes):
            await asyncio.sleep(whole_run / (flushes + 1))
            await flush_valkey(site, Random())
        drain_seconds = await drain(site, patience=whole_run)
        site.check_that_all_live()
        return Figures(await counted(site.dsn), 0, {"flush_valkey": flushes}, drain_seconds)


async def drain(site: Site, *, patience: float = DRAIN_SECONDS) -> float:
    """Wait until no job is open, for at most `patience` seconds; return the seconds waited."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < patience:
        if (await site.ask(NOTHING_IS_OPEN))[0]["it_is"]:
            break
        await asyncio.sleep(0.1)
    return waited
