"""procrastinate, with as many connections as it ships with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from procrastinate import App, PsycopgConnector
from psycopg_pool import AsyncConnectionPool

from bench.peers import inside

app = App(connector=PsycopgConnector(conninfo=inside.POSTGRES))
pool = AsyncConnectionPool(inside.POSTGRES, min_size=1, max_size=10, open=False)


@app.task
async def nothing(number: int) -> None:
    """Return at once."""
    inside.nothing(number)


@app.task
async def effect(number: int) -> None:
    """Write a row."""
    with inside.marked(number):
        async with pool.connection() as connection:
            await connection.execute(inside.INSERT_PSYCOPG, (number,))


@app.task
async def start() -> None:
    """Tell the bench that it runs."""
    inside.write_start()


TASKS = {"nothing": nothing, "effect": effect}


async def setup() -> None:
    """Make its tables."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def worker() -> None:
    """Run until SIGTERM."""
    async with app.open_async(), pool:
        await app.run_worker_async(concurrency=inside.SLOTS)


class Client:
    """Enqueue, single jobs on a connection of our own."""

    async def seed(self, kind: str, count: int) -> None:
        """Enqueue many."""
        await TASKS[kind].batch_defer_async(*({"number": number} for number in range(count)))

    async def one(self, number: int) -> None:
        """Enqueue one."""
        async with pool.connection() as connection:
            await nothing.configure(connection=connection).defer_async(number=number)

    async def start(self) -> None:
        """Enqueue one that tells."""
        async with pool.connection() as connection:
            await start.configure(connection=connection).defer_async()


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """Connect."""
    async with app.open_async(), pool:
        yield Client()
