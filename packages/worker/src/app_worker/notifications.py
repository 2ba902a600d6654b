"""Notifications between the workers, through Valkey's pub/sub: from relays to executors, and back."""

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

type Callback = Callable[[], None]


class NotificationListener:
    """The one connection of a process that listens for all its queues. A lost message costs a poll, never a job."""

    def __init__(self, valkey: Redis, callbacks: dict[str, Callback], *, call_timeout: timedelta) -> None:
        """Call `callbacks[channel]` at each message, and once after each subscription: messages may have been lost."""
        self._valkey = valkey
        self._callbacks = callbacks
        self._timeout = call_timeout.total_seconds()

    async def run(self) -> None:
        """Listen until cancelled, through all outages of Valkey."""
        while True:
            try:
                async with self._valkey.pubsub() as pubsub:
                    await pubsub.subscribe(*self._callbacks)
                    await self._listen(pubsub)
            except (RedisError, OSError) as error:
                log.warning("notifications_lost", cause=repr(error))
            await asyncio.sleep(PAUSE_AFTER_LOSS.total_seconds())

    async def _listen(self, pubsub: PubSub) -> None:
        """Never return. A frozen Valkey keeps its connections open, so send a ping after each silence."""
        is_ping_sent, since = False, time.monotonic()
        while True:
            if getattr(self._valkey.connection_pool, "left_at", 0.0) > since:
                demoted = "Valkey takes no writes any more"
                raise ConnectionError(demoted)  # guard: test_notifications_leave_a_valkey_that_was_demoted
            message = await pubsub.get_message(timeout=self._timeout)
            if message is not None:
                is_ping_sent = False
                if message["type"] in {"subscribe", "message"}:
                    self._callbacks[message["channel"].decode()]()
            elif is_ping_sent:
                silent = "Valkey does not answer"
                raise TimeoutError(silent)
            else:
                await pubsub.ping()
                is_ping_sent = True
