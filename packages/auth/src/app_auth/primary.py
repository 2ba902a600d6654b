"""Which server is the primary, as Sentinels say it (Valkey, "Guidelines for Sentinel clients")."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError
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
        self._sentinels = [
            Redis(
                host=host,
                port=port,
                socket_timeout=patience,
                socket_connect_timeout=patience,
                username=settings.sentinel_user,
                password=None if password is None else password.get_secret_value(),
                ssl=settings.is_encrypted,
                lib_name=None,  # guard: test_the_right_to_ask_suffices_at_a_sentinel
                lib_version=None,
                **settings.tls_options,
            )
            for host, port in url.hosts
        ]
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
        elif self._is_stale():
            self._question = asyncio.create_task(
                self._ask_anew()
            )  # guard: test_a_primary_is_left_that_takes_writes_still
        assert self._known is not None, "_ask raises, otherwise"
        return self._known

    def doubt(self) -> None:
        """Forget the address, and ask the Sentinel last that named it: it may be cut off from the others."""
        if self._known is not None:  # guard: test_two_doubts_of_one_answer_are_one
            first, *others = self._sentinels
            self._sentinels = [*others, first]
            self._known = None

    async def close(self) -> None:
        """Close the connections to the Sentinels."""
        if self._question is not None:
            self._question.cancel()
            await asyncio.wait([self._question])
        for sentinel in self._sentinels:
            await sentinel.aclose()

    def _is_stale(self) -> bool:
        if self._question is not None and not self._question.done():
            return False  # guard: test_many_calls_ask_the_sentinels_once
        return time.monotonic() - self._asked_at > LIFE.total_seconds()

    async def _ask(self) -> None:
        found = await self._answer()
        if self._known not in {None, found}:
            log.warning("valkey_primary_moved", to=f"{found[0]}:{found[1]}")
            self._on_move()
        self._known = found
        self._asked_at = time.monotonic()

    async def _answer(self) -> Address:
        """Return what the first Sentinel says that knows the primary; ask it first from now on."""
        asked, reasons = self._sentinels, []
        for sentinel in asked:
            place = "{host}:{port}".format_map(sentinel.connection_pool.connection_kwargs)
            try:
                masters = await sentinel.sentinel_masters()  # type: ignore[no-untyped-call]  # redis-py has no types
            except (RedisError, OSError) as error:  # guard: test_a_sentinel_that_refuses_the_question_is_passed_over
                reasons.append(f"{place}: {error!r}")
                continue
            found = masters.get(self._service)
            if found and found["is_master"] and not (found["is_sdown"] or found["is_odown"]):
                if asked is self._sentinels:  # else its answer was doubted meanwhile
                    self._sentinels = [sentinel, *(other for other in asked if other is not sentinel)]
                return found["ip"], found["port"]
            reasons.append(f"{place}: it is down" if found else f"{place}: knows no such service")
        raise MasterNotFoundError(f"No master found for {self._service!r}: {', '.join(reasons)}")

    async def _ask_anew(self) -> None:
        async with self._asking:
            try:
                await self._ask()
            except (RedisError, OSError) as error:
                log.warning("valkey_primary_unknown", cause=repr(error))
                self._asked_at = time.monotonic()
