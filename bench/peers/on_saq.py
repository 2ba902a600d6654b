"""SAQ with its queue in Valkey."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from saq import Queue, Worker

from bench.peers import inside
from bench.peers.of_valkey import effect, nothing, open_pool, setup, start

__all__ = ["Client", "client", "setup", "worker"]


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
