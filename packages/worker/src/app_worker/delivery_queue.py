"""The delivery queue in Valkey: deliveries that wait for an executor, and the free slots of all executors (ADR-0008).

It holds only `id:fence` of each delivery. Its loss loses no job, because the ledger has them all.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from app_auth.valkey import LeavingPool
from app_db.jobs.ledger import Delivery
from app_runtime.valkey import DEFAULT_PREFIX, ValkeySettings

log = structlog.get_logger(__name__)

FREE_SLOTS_TTL = timedelta(seconds=3)
"""How long an executor's free slots count after its last poll; then it is taken for dead."""
MAX_WAITING = 2048
"""Two deliveries for each of a thousand slots. Scores of so many differ within a millisecond (`push`)."""

# One script: between separate commands, a relay would count slots that are about to be filled.
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


type Valkey = Redis


class _Pool(LeavingPool):
    """Gives up on a connection after half the timeout of a call, because all calls wait while one connects."""

    patience: float

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> AbstractConnection:
        async with asyncio.timeout(self.patience):
            connection: AbstractConnection = await super().get_connection()
            return connection


@asynccontextmanager
async def connect(settings: ValkeySettings) -> AsyncIterator[Valkey]:
    """Open a client whose every call ends within `settings.timeout`."""
    half = settings.timeout.total_seconds() / 2
    pool = _Pool.of(settings, socket_timeout=half, socket_connect_timeout=half, socket_keepalive=True)
    pool.patience = half
    try:
        yield Redis(connection_pool=pool)
    finally:
        await pool.disconnect()


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How full a delivery queue is."""

    free_slots: int
    """The free slots of all live executors."""
    waiting: int
    """The deliveries that no executor has taken yet."""

    @property
    def capacity(self) -> int:
        """How many more deliveries may wait: two for each free slot, so that no job waits behind a slow one."""
        return min(MAX_WAITING, max(0, 2 * self.free_slots - self.waiting))


class DeliveryQueue:
    """The deliveries of one queue that wait in Valkey, and the free slots of the executors that take them.

    Raises:
        RedisError, OSError: every method, when Valkey does not answer or refuses.
    """

    def __init__(self, valkey: Valkey, queue: str, *, prefix: str = DEFAULT_PREFIX) -> None:
        self.queue = queue
        self.valkey = valkey
        self.key = f"{prefix}queue:{queue}"
        self._free = f"{self.key}:free"
        self.pushed_channel = f"{self.key}:pushed"
        """Tells executors that deliveries were pushed."""
        self.idle_channel = f"{self.key}:idle"
        """Tells relays that an executor has free slots, and found no delivery for them."""
        self._take = valkey.register_script(_TAKE)

    async def occupancy(self) -> Occupancy:
        """Return how many deliveries wait, and for how many slots."""
        async with self.valkey.pipeline(transaction=False) as pipe:
            pipe.hvals(self._free)
            pipe.zcard(self.key)
            free, waiting = await pipe.execute()
        return Occupancy(sum(map(int, free)), waiting)

    async def push(self, deliveries: Sequence[Delivery]) -> None:
        """Push deliveries, in their order, in one round trip. The previous delivery of each job is removed.

        When it raises, some of the deliveries may have arrived.
        """
        now = time.time_ns() // 1_000_000
        # Valkey serves equal scores by id, so every delivery of a push has a score of its own.
        scores = {arq_id(delivery): now + place / MAX_WAITING for place, delivery in enumerate(deliveries)}
        last = [arq_id(Delivery(delivery.id, delivery.fence - 1)) for delivery in deliveries]
        async with self.valkey.pipeline(transaction=False) as pipe:
            pipe.zadd(self.key, scores)
            pipe.zrem(self.key, *last)  # guard: test_a_job_that_is_dispatched_again_takes_its_last_delivery_back
            pipe.publish(self.pushed_channel, "")
            await pipe.execute()

    async def waiting(self) -> list[Delivery]:
        """Return the deliveries that no executor has taken yet."""
        return list(_deliveries(await self.valkey.zrange(self.key, 0, -1)))

    async def withdraw(self) -> list[Delivery]:
        """Remove and return the deliveries that no executor has taken yet."""
        return list(_deliveries([name for name, _ in await self.valkey.zpopmin(self.key, MAX_WAITING)]))

    async def take(self, executor_id: str, slots: int) -> list[Delivery]:
        """Remove and return up to `slots` deliveries for an executor, and count the slots that stay free."""
        milliseconds = int(FREE_SLOTS_TTL / timedelta(milliseconds=1))
        keys = [self.key, self._free, self.idle_channel]
        taken = await self._take(keys=keys, args=[slots, executor_id, milliseconds])
        return list(_deliveries(taken[::2]))  # a name, a score, a name, …

    async def take_unasked(self, slots: int) -> tuple[list[Delivery], Occupancy]:
        """Take as `take` does, for an executor that is not counted; say also for how many slots others wait."""
        async with self.valkey.pipeline(transaction=False) as pipe:
            pipe.zpopmin(self.key, slots)
            pipe.hvals(self._free)
            pipe.zcard(self.key)
            taken, free, waiting = await pipe.execute()
        return list(_deliveries([name for name, _ in taken])), Occupancy(sum(map(int, free)), waiting)

    async def leave(self, executor_id: str) -> None:
        """Stop counting the free slots of an executor that stops."""
        async with self.valkey.pipeline(transaction=False) as pipe:
            pipe.hdel(self._free, executor_id)
            await pipe.execute()


def arq_id(delivery: Delivery) -> str:
    """Return the name of a delivery in Valkey, which is its job id for arq."""
    return f"{delivery.id}:{delivery.fence}"


def _deliveries(arq_ids: Iterable[bytes]) -> Iterator[Delivery]:
    """Yield the deliveries of these names; a name that is no delivery is logged and dropped."""
    for name in arq_ids:
        job_id, _, fence = name.partition(b":")
        try:
            yield Delivery(UUID(job_id.decode()), int(fence))
        except ValueError:
            log.warning("delivery_unreadable", name=repr(name))
