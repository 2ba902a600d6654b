"""arq as our engine: it carries deliveries through Valkey and runs them. With main.py the only module that knows it.

Valkey holds `(id, fence)` as JSON and nothing that may not vanish. Of arq we use the wire format and `run_job`. What it
would do about retries, cron, results, signals and lost jobs is switched off: the ledger does it (ADR-0008).
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
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
PAUSE_AFTER_LOSS = timedelta(seconds=1)
NEVER = 10**6
MAX_WINDOW = 2048
"""Two for each of a thousand slots. A score of our time can still tell so many parts of a millisecond."""


def _serialize(job: dict[str, Any]) -> bytes:
    return json.dumps(job).encode()


type Valkey = ArqRedis


@asynccontextmanager
async def connect(url: str, *, call_timeout: timedelta) -> AsyncIterator[Valkey]:
    """Open a client whose every call ends within `call_timeout`; arq's own settings would wait for ever."""
    seconds = call_timeout.total_seconds()
    pool = ConnectionPool.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, socket_keepalive=True)
    try:
        yield ArqRedis(pool, job_serializer=_serialize, job_deserializer=json.loads)
    finally:
        await pool.disconnect()


class Engine:
    """One queue of one worker process: the window of deliveries in Valkey, and the slots that run them.

    `run` is called for each delivery, `slot_freed` when it has ended.
    """

    def __init__(
        self,
        valkey: Valkey,
        queue: str,
        *,
        slots: int,
        timeout: timedelta,
        run: Callable[[Delivery], Awaitable[None]],
        slot_freed: Callable[[], None],
    ) -> None:
        self.queue = queue
        self._key = f"app:queue:{queue}"
        self._valkey = valkey
        self._slots = slots
        self._slot_freed = slot_freed
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._woken = asyncio.Event()

        async def deliver(ctx: dict[Any, Any], job_id: str, fence: int) -> None:  # named as arq's protocol names it
            await run(Delivery(UUID(job_id), fence))

        self._worker = Worker(
            functions=[func(deliver, name=FUNCTION)],
            queue_name=self._key,
            redis_pool=valkey,
            job_serializer=_serialize,
            job_deserializer=json.loads,
            handle_signals=False,
            job_timeout=timeout,
            keep_result=0,
            max_tries=NEVER,
            log_results=False,
        )

    async def room(self) -> int:
        """Return how many more deliveries may wait: two for each free slot, so no job waits behind a slow one.

        Raises:
            RedisError, OSError: when Valkey does not answer; nothing is dispatched then.
        """
        return max(0, 2 * self._free_slots - int(await self._valkey.zcard(self._key)))

    async def push(self, deliveries: Sequence[Delivery]) -> None:
        """Send deliveries, in their order, in one round trip. The previous delivery of each job is taken back.

        Raises:
            RedisError, OSError: when some of them may not have arrived.
        """
        now = time.time_ns() // 1_000_000
        scores: dict[str, float] = {}
        async with self._valkey.pipeline(transaction=False) as pipe:
            for position, delivery in enumerate(deliveries):
                arguments = (str(delivery.id), delivery.fence)
                job = serialize_job(FUNCTION, arguments, {}, None, now, serializer=_serialize)
                pipe.psetex(job_key_prefix + _arq_id(delivery), KEY_TTL, job)
                scores[_arq_id(delivery)] = now + position / MAX_WINDOW  # equal scores would be served by id
            pipe.zadd(self._key, scores)
            last = [_arq_id(Delivery(delivery.id, delivery.fence - 1)) for delivery in deliveries]
            pipe.zrem(self._key, *last)  # guard: test_a_job_that_is_dispatched_again_takes_its_last_delivery_back
            await pipe.execute()
        self._woken.set()  # other workers poll

    def stop(self) -> None:
        """Start nothing more; `work` returns when what runs has ended."""
        self._stopping = True
        self._woken.set()

    async def work(self, *, grace: timedelta) -> None:
        """Run deliveries until `stop`; a Valkey that goes away and comes back does not end it.

        Then what runs may finish for up to `grace`; the rest is cancelled, which gives it back.
        """
        try:
            while not self._stopping:
                self._woken.clear()
                pause = await self._try_to_take()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), pause.total_seconds())
        finally:
            await self._drain(grace)

    @property
    def _free_slots(self) -> int:
        return self._slots - len(self._running)

    async def _try_to_take(self) -> timedelta:
        """Return when to look again at the latest."""
        try:
            await self._take()
        except (RedisError, OSError) as error:
            log.warning("valkey_lost", queue=self.queue, cause=repr(error))
            return PAUSE_AFTER_LOSS
        return POLL

    async def _take(self) -> None:
        """Start as many deliveries as there are free slots.

        They are taken out of the queue, where arq's own loop would leave them until they end: so nothing that dies or
        cannot reach Valkey leaves one behind that takes up room. One that is lost here is dispatched again.
        """
        if self._free_slots == 0:
            return
        for arq_id, score in await self._valkey.zpopmin(self._key, self._free_slots):
            task = asyncio.create_task(self._worker.run_job(arq_id.decode(), int(score)))
            self._running.add(task)
            task.add_done_callback(self._ended)

    async def _drain(self, grace: timedelta) -> None:
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # arq could not read the delivery, or tidy up after it. The ledger knows how the job stands.
            log.warning("valkey_lost", queue=self.queue, cause=repr(error))
        self._woken.set()
        self._slot_freed()


def _arq_id(delivery: Delivery) -> str:
    return f"{delivery.id}:{delivery.fence}"
