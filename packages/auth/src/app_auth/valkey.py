"""Connection pools for Valkey that follow its primary.

A demoted primary keeps its connections, and answers each write with READONLY (Valkey, "Replication"). A client that
keeps such a connection never reaches the new primary, although the address leads to it, or a Sentinel names it.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ValkeyGone
from redis.exceptions import MasterDownError, NoPermissionError, ReadOnlyError, RedisError

from app_auth.primary import Primary
from app_runtime.configuration import Misconfigured
from app_runtime.valkey import ValkeySettings

DEMOTED = (ReadOnlyError, MasterDownError)
"""The errors of a server that has become a replica; the second, if it serves no stale data."""


class ClusterMode(RedisError):
    """A server in cluster mode, which would refuse what has keys of two slots, and send clients elsewhere."""

    def __init__(self, *_: object) -> None:
        super().__init__("the server is in cluster mode: use one without (cluster-enabled no)")


def once_more() -> dict[str, Any]:  # Any: arguments of redis-py
    """Return the options to repeat a failed call once, on a new connection in place of the old one."""
    return {"retry": Retry(NoBackoff(), 1), "retry_on_error": [ValkeyGone, *DEMOTED]}


class LeavingPool(ConnectionPool):
    """A pool that closes the connections from before a server said that it is a replica, or Sentinels named another."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # Any: redis-py's business
        super().__init__(*arguments, **options)
        self.primary: Primary | None = None
        self.connection_class = _telling(self.connection_class, self)
        self.left_at = 0.0
        """When the primary was last known to be elsewhere, by `time.monotonic()`."""

    @classmethod
    def of(cls, settings: ValkeySettings, **options: Any) -> Self:  # Any: redis-py's business
        """Return a pool for the server of the URL, or for the primary that the Sentinels of the URL name."""
        options |= once_more() | settings.tls_options  # guard: test_a_worker_leaves_a_valkey_that_was_demoted
        sentinels = settings.sentinels
        if sentinels is None:
            return cls.from_url(settings.url.get_secret_value(), **options)
        pool = cls(
            connection_class=SSLConnection if settings.is_encrypted else Connection,
            username=sentinels.user,
            password=sentinels.password,
            db=sentinels.database,
            **options,
        )
        pool.primary = Primary(settings, sentinels, on_move=pool.leave)
        return pool

    def leave(self) -> None:
        """Close each connection before its next use."""
        self.left_at = time.monotonic()

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect; a connection that is older than the last change of the primary is closed first and opened anew."""
        if self.primary is not None:
            await self.primary.address()  # guard: test_a_primary_is_left_that_takes_writes_still
        if getattr(connection, "connected_at", 0.0) <= self.left_at:
            await connection.disconnect(nowait=True)  # guard: test_all_connections_to_a_demoted_valkey_are_left
        await super().ensure_connection(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002  # redis-py's signature
        """Close the connections, those to the Sentinels too."""
        await super().disconnect(inuse_connections)
        if self.primary is not None:
            await self.primary.close()  # guard: test_no_connection_to_a_sentinel_outlives_its_pool


class BlockingLeavingPool(LeavingPool, BlockingConnectionPool):
    """A LeavingPool that lets callers wait for a free connection."""


async def _refuse_cluster(connection: AbstractConnection) -> None:
    await connection.send_command("INFO", "cluster")
    try:
        reply = await connection.read_response()
    except NoPermissionError:
        return  # guard: test_a_user_who_may_not_ask_for_the_mode_works_all_the_same
    if b"cluster_enabled:1" in (reply if isinstance(reply, bytes) else str(reply).encode()):
        raise ClusterMode  # guard: test_a_server_in_cluster_mode_is_refused_by_name


def require_no_cluster(settings: ValkeySettings) -> None:
    """Refuse a server in cluster mode; may be called where an event loop runs. One that is away is let pass.

    Raises:
        Misconfigured: it answers, and is in cluster mode.
    """

    async def connect() -> None:
        seconds = settings.timeout.total_seconds()
        pool = LeavingPool.of(settings, socket_timeout=seconds)
        try:
            async with asyncio.timeout(seconds):
                await pool.release(await pool.get_connection())
        except ClusterMode as error:
            raise Misconfigured(f"APP_REDIS__URL: {error}") from None
        except (RedisError, OSError):
            return
        finally:
            await pool.disconnect()

    with ThreadPoolExecutor(max_workers=1) as executor:
        executor.submit(asyncio.run, connect()).result()


def _telling(base: type[AbstractConnection], pool: LeavingPool) -> type[AbstractConnection]:
    class TellingConnection(base):  # type: ignore[misc, valid-type]  # which of redis-py's depends on the URL
        connected_at = 0.0

        async def connect(self) -> None:
            if not self.is_connected:
                self.connected_at = time.monotonic()  # before the address, which may change meanwhile
                if pool.primary is not None:
                    self.host, self.port = await pool.primary.address()
            await super().connect()

        async def on_connect(self) -> None:
            await super().on_connect()
            await _refuse_cluster(self)

        async def read_response(self, *arguments: Any, **options: Any) -> Any:
            try:
                return await super().read_response(*arguments, **options)
            except DEMOTED:
                pool.leave()
                if pool.primary is not None:
                    pool.primary.doubt()  # guard: test_a_sentinel_that_is_cut_off_is_asked_last
                raise

    return TellingConnection
