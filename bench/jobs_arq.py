"""The baseline: arq without our code, with its defaults and tuned.

python -m arq bench.jobs_arq.Defaults       with the worker's environment
python -m bench.jobs_arq                    tuned
"""

import os
from typing import Any

import uvloop
from arq import ArqRedis
from arq.connections import RedisSettings
from arq.constants import default_queue_name, job_key_prefix
from arq.jobs import serialize_job
from arq.worker import run_worker

from bench.jobs_worker import write_start

EXPIRES_MS = 86_400_000


async def nothing(ctx: dict[Any, Any]) -> None:  # Any: arq's own type
    """Return at once."""


async def start(ctx: dict[Any, Any]) -> None:  # Any: arq's own type
    """Tell the bench that it runs."""
    write_start()


class Defaults:
    """The defaults: only the functions and the server are given."""

    functions = (nothing, start)
    redis_settings = RedisSettings.from_dsn(os.environ.get("APP_REDIS__URL", "redis://"))


class Tuned:
    """The fastest options."""

    functions = Defaults.functions  # arq does not see inherited attributes
    redis_settings = Defaults.redis_settings
    max_jobs = 100
    poll_delay = 0.01
    keep_result = 0


async def push(redis: ArqRedis, count: int, *, now_ms: int) -> None:
    """Enqueue one job that tells its start and then `count` that do nothing; all become visible at once."""
    names = ["start", *["nothing"] * count]
    async with redis.pipeline(transaction=False) as pipe:
        for number, name in enumerate(names):
            job = serialize_job(name, (), {}, None, now_ms, serializer=None)
            pipe.psetex(f"{job_key_prefix}{number}", EXPIRES_MS, job)
        pipe.zadd(default_queue_name, {str(number): now_ms - (number == 0) for number in range(len(names))})
        await pipe.execute()


if __name__ == "__main__":
    uvloop.install()
    run_worker(Tuned)  # type: ignore[arg-type]  # arq types a class of settings as its own protocol
