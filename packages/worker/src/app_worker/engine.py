"""arq as our engine: it carries deliveries through Valkey and runs them. With main.py the only module that knows it.

Valkey holds `(id, fence)` as JSON and nothing that may not vanish. What arq would do about retries, cron, results,
signals and lost jobs is switched off: the ledger does it (ADR-0008).
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from arq import ArqRedis, Worker, func
from arq.constants import job_key_prefix
from arq.jobs import serialize_job
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from app_db.jobs.ledger import Delivery

log = structlog.get_logger(__name__)

FUNCTION = "run"
KEY_TTL = timedelta(hours=1)
"""A delivery that nobody took for so long has lost its lease long before."""
POLL = timedelta(milliseconds=20)
NEVER = 10**6


def _serialize(job: dict[str, Any]) -> bytes:
    return json.dumps(job).encode()


type Valkey = ArqRedis


def connect(url: str, *, timeout: timedelta) -> Valkey:
    """Return a client whose every call ends within `timeout`; arq's own settings would wait for ever."""
    seconds = timeout.total_seconds()
    pool = ConnectionPool.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, socket_keepalive=True)
    return ArqRedis(pool, job_serializer=_serialize, job_deserializer=json.loads)


class Engine:
    """One queue of one worker process: the window of deliveries in Valkey, and the slots that run them."""

    def __init__(
        self,
        valkey: Valkey,
        queue: str,
        *,
        slots: int,
        timeout: timedelta,
        run: Callable[[Delivery], Awaitable[None]],
    ) -> None:
        self.queue = queue
        self._key = f"app:queue:{queue}"
        self._valkey = valkey
        self._slots = slots

        async def deliver(ctx: dict[Any, Any], job_id: str, fence: int) -> None:  # named as arq's protocol names it
            await run(Delivery(UUID(job_id), fence))

        self._worker = Worker(
            functions=[func(deliver, name=FUNCTION)],
            queue_name=self._key,
            redis_pool=valkey,
            job_serializer=_serialize,
            job_deserializer=json.loads,
            handle_signals=False,
            max_jobs=slots,
            job_timeout=timeout,
            keep_result=0,
            max_tries=NEVER,
            poll_delay=POLL.total_seconds(),
            log_results=False,
        )

    async def room(self) -> int:
        """Return how many more deliveries the window takes: twice the slots, so that none of them waits for a relay.

        Raises:
            RedisError, OSError: when Valkey does not answer; nothing is dispatched then.
        """
        return max(0, 2 * self._slots - int(await self._valkey.zcard(self._key)))

    async def push(self, deliveries: Sequence[Delivery]) -> None:
        """Send deliveries, in their order, in one round trip. The previous delivery of each job is taken back.

        Raises:
            RedisError, OSError: when some of them may not have arrived.
        """
        now = time.time_ns() // 1_000_000
        async with self._valkey.pipeline(transaction=False) as pipe:
            for delivery in deliveries:
                arguments = (str(delivery.id), delivery.fence)
                job = serialize_job(FUNCTION, arguments, {}, None, now, serializer=_serialize)
                pipe.psetex(job_key_prefix + _arq_id(delivery), KEY_TTL, job)
            pipe.zadd(self._key, {_arq_id(delivery): now for delivery in deliveries})
            pipe.zrem(self._key, *(_arq_id(Delivery(delivery.id, delivery.fence - 1)) for delivery in deliveries))
            await pipe.execute()

    async def work(self) -> None:
        """Run deliveries until cancelled; a Valkey that goes away and comes back does not end it."""
        while True:
            try:
                await self._worker.main()
            except (RedisError, OSError) as error:
                log.warning("valkey_lost", queue=self.queue, cause=repr(error))
                await asyncio.sleep(1)

    async def drain(self, grace: timedelta) -> None:
        """Start nothing more, let what runs finish for up to `grace`, and cancel the rest, which gives it back."""
        self._worker.allow_pick_jobs = False
        tasks = list(self._worker.tasks.values())
        if tasks:
            _, running = await asyncio.wait(tasks, timeout=grace.total_seconds())
            for task in running:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _arq_id(delivery: Delivery) -> str:
    return f"{delivery.id}:{delivery.fence}"
