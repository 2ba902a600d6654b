"""awa: its engine is Rust, its jobs run in our event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from awa import AsyncClient

from bench.peers import inside


@dataclass
class Nothing:
    """No work at all."""

    number: int


@dataclass
class Effect:
    """One row."""

    number: int


@dataclass
class Start:
    """Tells when it was started."""


KINDS: dict[str, type[Nothing | Effect]] = {"nothing": Nothing, "effect": Effect}


@asynccontextmanager
async def connected() -> AsyncIterator[AsyncClient]:
    """Connect."""
    awa = AsyncClient(inside.POSTGRES)
    yield awa
    await awa.close()


async def setup() -> None:
    """Make its tables."""
    async with connected() as awa:
        await awa.migrate()
        await awa.install_queue_storage()


async def worker() -> None:
    """Run until SIGTERM."""
    async with connected() as awa, asyncpg.create_pool(inside.POSTGRES, min_size=1, max_size=10) as pool:

        async def nothing(job: Any) -> None:  # Any: awa is not there when types are checked
            inside.nothing(job.args.number)

        async def effect(job: Any) -> None:  # Any: as above
            with inside.marked(job.args.number):
                await pool.execute(inside.INSERT, job.args.number)

        async def start(job: Any) -> None:  # Any: as above
            inside.write_start()

        for payload, handler in ((Nothing, nothing), (Effect, effect), (Start, start)):
            awa.task(payload)(handler)
        await awa.start([("default", inside.SLOTS)])
        await asyncio.Event().wait()


class Client:
    """Enqueue through its own pool."""

    def __init__(self, awa: AsyncClient) -> None:
        self.awa = awa

    async def seed(self, kind: str, count: int) -> None:
        """Enqueue many."""
        await self.awa.enqueue_many_copy([KINDS[kind](number) for number in range(count)])

    async def one(self, number: int) -> None:
        """Enqueue one."""
        await self.awa.insert(Nothing(number))

    async def start(self) -> None:
        """Enqueue one that tells."""
        await self.awa.insert(Start())


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """Connect."""
    async with connected() as awa:
        yield Client(awa)
