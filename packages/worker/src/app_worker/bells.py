"""Wake-ups inside the workers, through Valkey's pub/sub: from relays to engines, and from engines to relays."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

PAUSE_AFTER_LOSS = timedelta(seconds=1)

type Ring = Callable[[], None]


class Bells:
    """One connection of a process, which hears for all its queues. A bell that is missed costs a poll, never a job."""

    def __init__(self, valkey: Redis, rings: dict[str, Ring], *, call_timeout: timedelta) -> None:
        """Call `rings[channel]` at each message, and once whenever the channel is heard (again): some were missed."""
        self._valkey = valkey
        self._rings = rings
        self._timeout = call_timeout.total_seconds()

    async def run(self) -> None:
        """Listen until cancelled, whatever becomes of Valkey."""
        while True:
            try:
                async with self._valkey.pubsub() as pubsub:
                    await pubsub.subscribe(*self._rings)
                    await self._listen(pubsub)
            except (RedisError, OSError) as error:
                log.warning("bells_lost", cause=repr(error))
            await asyncio.sleep(PAUSE_AFTER_LOSS.total_seconds())

    async def _listen(self, pubsub: PubSub) -> None:
        """Never return. A frozen Valkey keeps its connections open, so silence is questioned."""
        asked, since = False, time.monotonic()
        while True:
            if getattr(self._valkey.connection_pool, "left_at", 0.0) > since:
                demoted = "Valkey takes no writes any more"
                raise ConnectionError(demoted)  # guard: test_bells_leave_a_valkey_that_was_demoted
            message = await pubsub.get_message(timeout=self._timeout)
            if message is not None:
                asked = False
                if message["type"] in {"subscribe", "message"}:
                    self._rings[message["channel"].decode()]()
            elif asked:
                silent = "Valkey does not answer"
                raise TimeoutError(silent)
            else:
                await pubsub.ping()
                asked = True
