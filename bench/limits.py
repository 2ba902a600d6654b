"""`python -m bench.limits`: what jobs with limits per key cost, and what those that wait cost jobs without.

Each line has one worker process of ten slots. The last line shows the same jobs as the first, beside as many that wait.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from itertools import batched
from os import getloadavg

from app_db import Database, open_database
from app_db.jobs.limits import Limit
from app_db.jobs.outbox import enqueue_many
from app_db.jobs.payload import JobPayload
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.jobs_place import PATIENCE, Place, say
from bench.jobs_rates import warm_up
from bench.jobs_worker import Limited, Nothing

OPEN = "SELECT EXISTS (SELECT FROM jobs WHERE finished_at IS NULL AND kind <> 'bench.waiting')"
OVER = """
    SELECT count(*) FROM (
        SELECT FROM jobs WHERE limit_key IS NOT NULL AND due_at IS NULL AND finished_at IS NULL
        GROUP BY limit_key HAVING count(*) > 2
    ) AS over
"""


class Waiting(JobPayload, limit=Limit(running=1)):
    """A job that waits for ever: no worker has declared its limit."""

    kind = "bench.waiting"


async def measure(
    place: Place, name: str, jobs: Sequence[JobPayload], *, beside: Sequence[JobPayload] = (), keys: int
) -> None:
    """Enqueue, let a worker run all, and print what it cost and how often a limit was exceeded."""
    say(name)
    await place.empty()
    await place.connection.execute("TRUNCATE job_limit_keys, job_limit_signals")
    with place.processes("bench.jobs_worker", environment={"APP_WORKER__CONCURRENCY": "10"}) as workers:
        await warm_up(place, Nothing.kind, 1)
        async with open_database(place.settings, name="bench") as database:
            await enqueue_in_parts(database, beside)
            before, began = place.cpu(workers), time.monotonic()
            await enqueue_in_parts(database, jobs)
        enqueued, over = time.monotonic(), 0
        async with asyncio.timeout(PATIENCE):
            while await place.connection.fetchval(OPEN):
                over += await place.connection.fetchval(OVER)
                await asyncio.sleep(0.05)
        seconds = time.monotonic() - began
        used = place.cpu(workers).since(before)
    count = len(jobs)
    figures = (enqueued - began, count / seconds, used.workers / count * 1e6, used.postgres / count * 1e6)
    print(f"{name:40} {count:8} {keys:7}", *(f"{figure:9.1f}" for figure in figures), f"{over:5}", flush=True)


async def enqueue_in_parts(database: Database, jobs: Sequence[JobPayload]) -> None:
    """Enqueue a thousand jobs in each transaction."""
    for part in batched(jobs, 1000, strict=False):
        async with database.unit_of_work() as session:
            await enqueue_many(session, part)


async def run(postgres: PostgresServer, valkey: ValkeyServer, jobs: int, keys: int) -> None:
    """Print a line for each."""
    place = await Place.prepare(postgres, valkey)
    names = ("enqueue s", "jobs/s", "worker µs", "Postgres")
    print(f"load {getloadavg()[0]:.1f}\n{'':40} {'jobs':>8} {'keys':>7}", *(f"{name:>9}" for name in names), " over")
    plain = [Nothing(number=number) for number in range(jobs)]
    await measure(place, "without a limit", plain, keys=0)
    limited = [Limited(number=number, key=number % keys) for number in range(jobs)]
    await measure(place, "two at once of each key", limited, keys=keys)
    few = jobs // 10
    uneven = [Limited(number=number, key=max(0, number - few * 9 // 10)) for number in range(few)]
    await measure(place, "nine tenths of one key", uneven, keys=few // 10)
    await measure(place, "without a limit, beside as many that wait", plain, beside=[Waiting()] * jobs, keys=0)
    await place.connection.close()


def main() -> None:
    """Start the servers, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=10_000)
    arguments = parser.parse_args()
    with PostgresServer.temporary(durable=True) as postgres, ValkeyServer.temporary() as valkey:
        asyncio.run(run(postgres, valkey, arguments.jobs, arguments.keys))


if __name__ == "__main__":
    main()
