"""oban, whose workers are classes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import oban
from oban import Job, Oban
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

from bench.peers import inside

pool = AsyncConnectionPool(inside.POSTGRES, min_size=1, max_size=10, open=False)


@oban.worker(queue="default")
class Nothing:
    """No work at all."""

    async def process(self, job: Job) -> None:
        """Return at once."""
        inside.nothing(job.args["number"])


@oban.worker(queue="default")
class Effect:
    """One row."""

    async def process(self, job: Job) -> None:
        """Write a row."""
        with inside.marked(job.args["number"]):
            async with pool.connection() as connection:
                await connection.execute(inside.INSERT_PSYCOPG, (job.args["number"],))


@oban.worker(queue="default")
class Start:
    """Tells when it was started."""

    async def process(self, job: Job) -> None:
        """Tell the bench that it runs."""
        inside.write_start()


KINDS: dict[str, Any] = {"nothing": Nothing, "effect": Effect, "start": Start}  # Any: the decorator adds `new`


async def setup() -> None:
    """Make its tables."""
    async with pool:
        await install(pool)


async def worker() -> None:
    """Run until SIGTERM."""
    async with pool, Oban(pool=pool, queues={"default": inside.SLOTS}):
        await asyncio.Event().wait()


class Client:
    """Enqueue, single jobs on a connection of our own."""

    def __init__(self, producer: Oban) -> None:
        self.producer = producer

    async def seed(self, kind: str, count: int) -> None:
        """Enqueue many."""
        await self.producer.enqueue_many(KINDS[kind].new({"number": number}) for number in range(count))

    async def one(self, number: int) -> None:
        """Enqueue one."""
        async with pool.connection() as connection:
            await self.producer.enqueue(KINDS["nothing"].new({"number": number}), conn=connection)

    async def start(self) -> None:
        """Enqueue one that tells."""
        async with pool.connection() as connection:
            await self.producer.enqueue(KINDS["start"].new({}), conn=connection)


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """Connect."""
    async with pool, Oban(pool=pool) as producer:
        yield Client(producer)
