"""arq with its fastest options: a hundred slots, a poll each 10 ms, no results."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import ArqRedis
from arq.connections import RedisSettings, create_pool
from arq.worker import Worker

from bench.peers import inside
from bench.peers.of_valkey import effect, nothing, open_pool, setup, start

__all__ = ["Client", "client", "setup", "worker"]


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
        await inside.gathered(lambda number: self.redis.enqueue_job(kind, number=number), count)

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
