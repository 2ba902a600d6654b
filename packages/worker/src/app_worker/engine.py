"""arq as our engine: it runs deliveries, which we carry through Valkey. The only module that knows it.

Valkey holds `id:fence` and nothing that may not vanish. Of arq we use `run_job`. What it would do about payloads,
retries, cron, results, signals and lost jobs is switched off or answered here: the ledger does it (ADR-0008).
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import structlog
from arq import ArqRedis, Worker, func
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from app_auth.valkey import LeavingPool, once_more
from app_db.jobs.ledger import Delivery
from app_db.settings import ValkeySettings
from app_db.types import new_id
from app_worker.fake_arq_client import FUNCTION, FakeArqClient

log = structlog.get_logger(__name__)

POLL = timedelta(seconds=1)
FREE_FOR = timedelta(seconds=3)
"""For so long the slots of an engine count that has not asked again: it is dead, or cannot reach Valkey."""
PAUSE_AFTER_LOSS = timedelta(seconds=1)
NEVER = 10**6
MAX_WINDOW = 2048
"""Two for each of a thousand slots. A score of our time can still tell so many parts of a millisecond."""

# In one step: a relay that looks in between would see slots that are about to be filled.
_TAKE = """
local wanted = tonumber(ARGV[1])
local taken = redis.call('ZPOPMIN', KEYS[1], wanted)
local free = wanted - #taken / 2
if free > 0 then
    redis.call('HSET', KEYS[2], ARGV[2], free)
    redis.call('HPEXPIRE', KEYS[2], ARGV[3], 'FIELDS', 1, ARGV[2])
    redis.call('PUBLISH', KEYS[3], '')
else
    redis.call('HDEL', KEYS[2], ARGV[2])
end
return taken
"""


type Valkey = ArqRedis


class _Pool(LeavingPool):
    """Connections that are not waited for longer than half of a call may take: while one connects, all others wait."""

    patience: float

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> AbstractConnection:
        async with asyncio.timeout(self.patience):
            connection: AbstractConnection = await super().get_connection()
            return connection


@asynccontextmanager
async def connect(settings: ValkeySettings) -> AsyncIterator[Valkey]:
    """Open a client whose every call ends within `settings.timeout`; arq's own settings would wait for ever."""
    half = settings.timeout.total_seconds() / 2
    options = {**once_more(), **settings.tls_options}  # guard: test_a_worker_leaves_a_valkey_that_was_demoted
    url = settings.url.get_secret_value()
    pool = _Pool.from_url(url, socket_timeout=half, socket_connect_timeout=half, socket_keepalive=True, **options)
    pool.patience = half
    try:
        yield ArqRedis(pool)
    finally:
        await pool.disconnect()


@dataclass(frozen=True, slots=True)
class Look:
    """What a relay sees of a window."""

    free_slots: int
    """Of all engines that live."""
    waiting: int

    @property
    def room(self) -> int:
        """How many more deliveries may wait: two for each free slot, so no job waits behind a slow one."""
        return min(MAX_WINDOW, max(0, 2 * self.free_slots - self.waiting))


class Window:
    """The deliveries of one queue that wait in Valkey, and the free slots of the engines that take them.

    Raises:
        RedisError, OSError: every method, when Valkey does not answer or refuses.
    """

    def __init__(self, valkey: Valkey, queue: str) -> None:
        self.queue = queue
        self.valkey = valkey
        self.key = f"app:queue:{queue}"
        self._free = f"{self.key}:free"
        self.pushed = f"{self.key}:pushed"
        """The channel that tells engines of new deliveries."""
        self.hungry = f"{self.key}:hungry"
        """The channel that tells relays of an engine with free slots that found nothing to fill them."""
        self._take = valkey.register_script(_TAKE)

    async def look(self) -> Look:
        """See how many deliveries wait, and for how many slots."""
        async with self.valkey.pipeline(transaction=False) as pipe:
            pipe.hvals(self._free)
            pipe.zcard(self.key)
            free, waiting = await pipe.execute()
        return Look(sum(map(int, free)), waiting)

    async def push(self, deliveries: Sequence[Delivery]) -> None:
        """Send deliveries, in their order, in one round trip. The previous delivery of each job is taken back.

        When it raises, some of them may have arrived.
        """
        now = time.time_ns() // 1_000_000
        # Equal scores would be served by id.
        scores = {_arq_id(delivery): now + place / MAX_WINDOW for place, delivery in enumerate(deliveries)}
        last = [_arq_id(Delivery(delivery.id, delivery.fence - 1)) for delivery in deliveries]
        async with self.valkey.pipeline(transaction=False) as pipe:
            pipe.zadd(self.key, scores)
            pipe.zrem(self.key, *last)  # guard: test_a_job_that_is_dispatched_again_takes_its_last_delivery_back
            pipe.publish(self.pushed, "")
            await pipe.execute()

    async def waiting(self) -> list[Delivery]:
        """Return the deliveries that no engine has taken yet."""
        return list(_deliveries(await self.valkey.zrange(self.key, 0, -1)))

    async def withdraw(self) -> list[Delivery]:
        """Take back what no engine has taken yet."""
        return list(_deliveries([name for name, _ in await self.valkey.zpopmin(self.key, MAX_WINDOW)]))

    async def take(self, engine: str, slots: int) -> list[Delivery]:
        """Take up to `slots` deliveries for an engine with so many free slots."""
        milliseconds = int(FREE_FOR / timedelta(milliseconds=1))
        keys = [self.key, self._free, self.hungry]
        taken = await self._take(keys=keys, args=[slots, engine, milliseconds])
        return list(_deliveries(taken[::2]))  # a name, a score, a name, …

    async def leave(self, engine: str) -> None:
        """Take the slots of an engine that stops out of the count."""
        async with self.valkey.pipeline(transaction=False) as pipe:
            pipe.hdel(self._free, engine)
            await pipe.execute()


class Engine:
    """One queue of one worker process: its slots, in which `run` is called for each delivery."""

    def __init__(
        self,
        window: Window,
        *,
        slots: int,
        timeout: timedelta,
        run: Callable[[Delivery], Awaitable[None]],
        poll: timedelta = POLL,
    ) -> None:
        """End what runs longer than `timeout`; look for deliveries once in `poll`, if nobody calls `notify` before."""
        self._id = str(new_id())
        self._window = window
        self._slots = slots
        self._poll = poll
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._notified = asyncio.Event()

        async def deliver(ctx: dict[Any, Any], job_id: str, fence: int) -> None:  # named as arq's protocol names it
            await run(Delivery(UUID(job_id), fence))

        self._worker = Worker(
            functions=[func(deliver, name=FUNCTION)],
            queue_name=window.key,
            redis_pool=cast("ArqRedis", FakeArqClient()),  # all that `run_job` asks of a client
            job_deserializer=_as_it_is,  # arq's own choice would load pickles
            handle_signals=False,
            job_timeout=timeout,
            keep_result=0,
            max_tries=NEVER,
            log_results=False,
        )

    def notify(self) -> None:
        """Look at once: there are new deliveries."""
        self._notified.set()

    def stop(self) -> None:
        """Start nothing more; `work` returns when what runs has ended."""
        self._stopping = True
        self._notified.set()

    async def work(self, *, grace: timedelta) -> None:
        """Run deliveries until `stop`; a Valkey that goes away and comes back does not end it.

        Then what runs may finish for up to `grace`; the rest is cancelled, which gives it back.
        """
        try:
            while not self._stopping:
                self._notified.clear()
                pause = await self._try_to_take()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._notified.wait(), pause.total_seconds())
        finally:
            with contextlib.suppress(RedisError, OSError):  # then they are forgotten in a moment
                await self._window.leave(self._id)
            await self._drain(grace)

    async def _try_to_take(self) -> timedelta:
        """Return when to look again at the latest."""
        try:
            await self._take()
        except (RedisError, OSError) as error:
            log.warning("valkey_lost", queue=self._window.queue, cause=repr(error))
            return PAUSE_AFTER_LOSS
        return self._poll * random.uniform(0.8, 1)  # noqa: S311  # so that a fleet does not ask in step

    async def _take(self) -> None:
        """Start as many deliveries as there are free slots.

        They are taken out of the queue, where arq's own loop would leave them until they end: so nothing that dies or
        cannot reach Valkey leaves one behind that takes up room. One that is lost here is dispatched again.
        """
        free = self._slots - len(self._running)
        if free == 0:
            return
        for delivery in await self._window.take(self._id, free):
            task = asyncio.create_task(self._worker.run_job(_arq_id(delivery), 0))
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
        self._notified.set()


def _as_it_is(job: Any) -> dict[str, Any]:  # Any: what FakeArqClient returns
    assert isinstance(job, dict), "nothing that was serialized comes this way"
    return job


def _arq_id(delivery: Delivery) -> str:
    return f"{delivery.id}:{delivery.fence}"


def _deliveries(arq_ids: Iterable[bytes]) -> Iterator[Delivery]:
    """Yield what these name; whoever put anything else there has lost it."""
    for arq_id in arq_ids:
        job_id, _, fence = arq_id.partition(b":")
        try:
            yield Delivery(UUID(job_id.decode()), int(fence))
        except ValueError:
            log.warning("delivery_unreadable", name=repr(arq_id))
