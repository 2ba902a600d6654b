"""Which server is the primary, as Sentinels say it (Valkey, "Guidelines for Sentinel clients")."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from app_runtime.sentinels import SentinelUrl
from app_runtime.valkey import ValkeySettings

log = structlog.get_logger(__name__)

LIFE: Final = timedelta(seconds=1)
"""How long an answer counts: a primary that was replaced may take writes for ten seconds more, which are lost."""

type Address = tuple[str, int]


class Primary:
    """The address of the primary. What Sentinels do not know changes nothing: the last address is used on."""

    def __init__(self, settings: ValkeySettings, url: SentinelUrl, *, on_move: Callable[[], None]) -> None:
        """`on_move` is called when Sentinels name another server than before."""
        # A fourth of the patience of a call: the machine of a dead primary often has a Sentinel, which is dead too.
        patience = settings.timeout.total_seconds() / 4
        password = settings.sentinel_password
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py has no types for it
            url.hosts,
            sentinel_kwargs={
                "socket_timeout": patience,
                "socket_connect_timeout": patience,
                "username": settings.sentinel_user,
                "password": None if password is None else password.get_secret_value(),
                "ssl": settings.is_encrypted,
                **settings.tls_options,
            },
        )
        self._service = url.service
        self._on_move = on_move
        self._asking = asyncio.Lock()
        self._known: Address | None = None
        self._asked_at = 0.0
        self._question: asyncio.Task[None] | None = None

    async def address(self) -> Address:
        """Return the last address. Once it is older than `LIFE`, Sentinels are asked anew, and no call waits for that.

        Raises:
            RedisError: no Sentinel names a primary, and none has since `doubt`.
        """
        if self._known is None:
            async with self._asking:
                if self._known is None:
                    await self._ask()
        elif time.monotonic() - self._asked_at > LIFE.total_seconds() and not self._asking.locked():
            self._question = asyncio.create_task(self._ask_anew())
        assert self._known is not None, "_ask raises, otherwise"
        return self._known

    def doubt(self) -> None:
        """Forget the address, and ask the Sentinel last that named it: it may be cut off from the others."""
        if self._known is not None:  # once for all connections that meet the same replica
            self._sentinel.sentinels.append(self._sentinel.sentinels.pop(0))
            self._known = None

    async def close(self) -> None:
        """Close the connections to the Sentinels."""
        if self._question is not None:
            self._question.cancel()
            await asyncio.wait([self._question])
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()

    async def _ask(self) -> None:
        found = await self._sentinel.discover_master(self._service)
        if self._known not in {None, found}:
            log.warning("valkey_primary_moved", to=f"{found[0]}:{found[1]}")
            self._on_move()
        self._known = found
        self._asked_at = time.monotonic()

    async def _ask_anew(self) -> None:
        async with self._asking:
            try:
                await self._ask()
            except (RedisError, OSError) as error:
                log.warning("valkey_primary_unknown", cause=repr(error))
                self._asked_at = time.monotonic()
