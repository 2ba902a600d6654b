"""Threads that outlive their jobs: how long a job of another kind waits for a thread."""

import asyncio
import time

from app_db import open_database
from app_db.jobs.outbox import enqueue
from bench.jobs_place import Place, say
from bench.jobs_rates import warm_up
from bench.jobs_worker import Lookup

HUNG = 8
"""Jobs that each leave a thread behind for 45 s; two cores have six threads by default."""


async def threads(place: Place, *, environment: dict[str, str]) -> float:
    """Return the seconds from enqueueing to the end of a job that needs a thread, beside `HUNG` that hang."""
    say(f"a job that needs a thread, beside {HUNG} threads of jobs that are over")
    await place.empty()
    async with open_database(place.settings, name="bench") as database:
        with place.processes("bench.jobs_worker", environment=environment):
            await warm_up(place, "bench.effect", 1)
            await place.seed("bench.hang", HUNG)
            await place.notify()
            over = "SELECT count(*) FROM jobs WHERE kind = 'bench.hang' AND state = 'discarded'"
            while await place.connection.fetchval(over) < HUNG:  # noqa: ASYNC110  # nobody tells us
                await asyncio.sleep(0.1)
            before = time.monotonic()
            async with database.sessions.begin() as session:
                job_id = await enqueue(session, Lookup())
            ended = "SELECT finished_at IS NOT NULL FROM jobs WHERE id = $1"
            while not await place.connection.fetchval(ended, job_id):  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)
            took = time.monotonic() - before
            attempts = await place.connection.fetchval("SELECT attempt FROM jobs WHERE id = $1", job_id)
    print(f"ended after {took:.2f} s, in attempt {attempts}", flush=True)
    return took
