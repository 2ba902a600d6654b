"""SAQ with its queue in Valkey."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from saq import Queue, Worker

from bench.peers import inside

Context = dict[str, Any]  # Any: SAQ's own type


async def nothing(ctx: Context, *, number: int) -> None:
    """Return at once."""
    inside.nothing(number)


async def effect(ctx: Context, *, number: int) -> None:
    """Write a row."""
    with inside.marked(number):
        await ctx["pool"].execute(inside.INSERT, number)


async def start(ctx: Context) -> None:
    """Tell the bench that it runs."""
    inside.write_start()


async def open_pool(ctx: Context) -> None:
    """Connect the worker to Postgres."""
    ctx["pool"] = await asyncpg.create_pool(inside.POSTGRES, min_size=1, max_size=10)


async def setup() -> None:
    """Need no tables."""


async def worker() -> None:
    """Run until SIGTERM."""
    queue = Queue.from_url(inside.VALKEY)
    await queue.connect()
    await Worker(queue, functions=[nothing, effect, start], concurrency=inside.SLOTS, startup=open_pool).start()


class Client:
    """Enqueue into Valkey."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    async def seed(self, kind: str, count: int) -> None:
        """Enqueue many."""
        await inside.gathered(lambda number: self.queue.enqueue(kind, number=number), count)

    async def one(self, number: int) -> None:
        """Enqueue one."""
        await self.queue.enqueue("nothing", number=number)

    async def start(self) -> None:
        """Enqueue one that tells."""
        await self.queue.enqueue("start")


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """Connect."""
    queue = Queue.from_url(inside.VALKEY)
    await queue.connect()
    yield Client(queue)
    await queue.disconnect()
