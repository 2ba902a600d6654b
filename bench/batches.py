"""`python -m bench.batches`: what jobs of a batch cost beside jobs of their own, and a chain, link by link.

Each line has one worker process of ten slots. A batch counts until its last job has ended, a chain until its last link.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import batched
from os import getloadavg
from uuid import UUID

from app_db import Session, open_database
from app_db.jobs.batches import enqueue_batch, enqueue_chain
from app_db.jobs.outbox import enqueue_many
from app_db.jobs.payload import JobPayload
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.jobs_place import Place, say
from bench.jobs_rates import drained, warm_up
from bench.jobs_worker import Effect, Nothing

ENDED = "SELECT NOT EXISTS (SELECT FROM job_batches WHERE ended_at IS NULL)"

type Enqueue = Callable[[Session], Awaitable[object]]


async def measure(place: Place, name: str, jobs: int, enqueue: Enqueue) -> None:
    """Enqueue in one transaction, let a worker run all, and print what it cost."""
    say(name)
    await place.empty()
    await place.connection.execute("TRUNCATE job_batches, job_batch_changes CASCADE")
    with place.processes("bench.jobs_worker", environment={"APP_WORKER__CONCURRENCY": "10"}) as workers:
        await warm_up(place, Nothing.kind, 1)
        before = place.cpu(workers)
        async with open_database(place.settings, name="bench") as database:
            began = time.monotonic()
            async with database.unit_of_work() as session:
                await enqueue(session)
            enqueued = time.monotonic()
            await drained(place)
            while not await place.connection.fetchval(ENDED):  # noqa: ASYNC110  # nobody tells us
                await asyncio.sleep(0.02)
        seconds = time.monotonic() - enqueued
        used = place.cpu(workers).since(before)
    figures = (enqueued - began, jobs / seconds, used.workers / jobs * 1e6, used.postgres / jobs * 1e6)
    print(f"{name:32} {jobs:8}", *(f"{figure:9.1f}" for figure in figures), flush=True)


def some(payload_class: type[Effect | Nothing], jobs: int) -> list[JobPayload]:
    """Return so many payloads."""
    return [payload_class(number=number) for number in range(jobs)]


async def run(postgres: PostgresServer, valkey: ValkeyServer, members: int, links: int) -> None:
    """Print a line for each."""
    place = await Place.prepare(postgres, valkey)
    names = ("enqueue s", "jobs/s", "worker µs", "Postgres")
    print(f"load {getloadavg()[0]:.1f}\n{'':32} {'jobs':>8}", *(f"{name:>9}" for name in names))
    for payload_class, mode in ((Nothing, "lease, nothing"), (Effect, "tx, one INSERT")):

        async def alone(session: Session, payload_class: type[Effect | Nothing] = payload_class) -> list[UUID]:
            jobs = some(payload_class, members)
            return [id_ for part in batched(jobs, 5000, strict=False) for id_ in await enqueue_many(session, part)]

        async def batch(session: Session, payload_class: type[Effect | Nothing] = payload_class) -> UUID:
            return await enqueue_batch(session, some(payload_class, members), then=Nothing(number=0))

        async def chain(session: Session, payload_class: type[Effect | Nothing] = payload_class) -> UUID:
            return await enqueue_chain(session, *some(payload_class, links))

        await measure(place, f"{mode}, alone", members, alone)
        await measure(place, f"{mode}, in a batch", members, batch)
        await measure(place, f"{mode}, in a chain", links, chain)
    await place.connection.close()


def main() -> None:
    """Start the servers, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--links", type=int, default=10_000)
    arguments = parser.parse_args()
    with PostgresServer.temporary(durable=True) as postgres, ValkeyServer.temporary() as valkey:
        asyncio.run(run(postgres, valkey, arguments.members, arguments.links))


if __name__ == "__main__":
    main()
