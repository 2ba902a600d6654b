"""arq with its fastest options: a hundred slots, a poll each 10 ms, no results."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from arq import ArqRedis
from arq.connections import RedisSettings, create_pool
from arq.worker import Worker

from bench.peers import inside

Context = dict[str, Any]  # Any: arq's own type


async def nothing(ctx: Context, number: int) -> None:
    """Return at once."""
    inside.nothing(number)


async def effect(ctx: Context, number: int) -> None:
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
    settings = RedisSettings.from_dsn(inside.VALKEY)
    functions: Any = [nothing, effect, start]  # Any: arq's protocol wants attributes that functions have of themselves
    await Worker(
        functions, redis_settings=settings, on_startup=open_pool, max_jobs=inside.SLOTS, poll_delay=0.01, keep_result=0
    ).async_run()


class Client:
    """Enqueue into Valkey."""

    def __init__(self, redis: ArqRedis) -> None:
        self.redis = redis

    async def seed(self, kind: str, count: int) -> None:
        """Enqueue many."""
        await inside.gathered(lambda number: self.redis.enqueue_job(kind, number), count)

    async def one(self, number: int) -> None:
        """Enqueue one."""
        await self.redis.enqueue_job("nothing", number)

    async def start(self) -> None:
        """Enqueue one that tells."""
        await self.redis.enqueue_job("start")


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    """Connect."""
    redis = await create_pool(RedisSettings.from_dsn(inside.VALKEY))
    yield Client(redis)
    await redis.aclose()
