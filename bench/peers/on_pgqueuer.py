"""pgqueuer: ten at once, or with a hundred slots batches of a hundred and no limit, as it ships."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers import inside


async def setup() -> None:
    """Make its tables."""
    connection = await asyncpg.connect(inside.POSTGRES)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def worker() -> None:
    """Run until SIGTERM."""
    async with asyncpg.create_pool(inside.POSTGRES, min_size=2, max_size=20) as pool:
        queuer = PgQueuer(AsyncpgPoolDriver(pool))

        @queuer.entrypoint("nothing")
        async def nothing(job: Job) -> None:
            inside.nothing(int(job.payload or b""))

        @queuer.entrypoint("effect")
        async def effect(job: Job) -> None:
            number = int(job.payload or b"")
            with inside.marked(number):
                await pool.execute(inside.INSERT, number)

        @queuer.entrypoint("start")
        async def start(job: Job) -> None:
            inside.write_start()

        # it refuses batches that are larger than half of what may run at once
        few = {"batch_size": inside.SLOTS // 2, "max_concurrent_tasks": inside.SLOTS}
        await queuer.run(**(few if inside.SLOTS < 100 else {"batch_size": inside.SLOTS}))


class Client:
    """Enqueue on one connection."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.connection = connection
        self.queries = Queries(AsyncpgDriver(connection))

    async def seed(self, kind: str, count: int) -> None:
        """Enqueue many."""
        await self.queries.enqueue([kind] * count, [str(number).encode() for number in range(count)], [0] * count)

    async def one(self, number: int) -> None:
        """Enqueue one."""
        async with self.connection.transaction():
            await self.queries.enqueue("nothing", str(number).encode())

    async def start(self) -> None:
        """Enqueue one that tells."""
        async with self.connection.transaction():
            await self.queries.enqueue("start", b"0")


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """Connect."""
    connection = await asyncpg.connect(inside.POSTGRES)
    yield Client(connection)
    await connection.close()
