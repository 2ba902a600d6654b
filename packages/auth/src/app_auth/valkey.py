"""Connection pools for Valkey that close their connections to a server that has become a replica.

A demoted primary keeps its connections, and answers each write with READONLY (Valkey, "Replication"). A client that
keeps such a connection never reaches the new primary, although the address leads to it.
"""

import time
from collections.abc import Callable
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ValkeyGone
from redis.exceptions import MasterDownError, ReadOnlyError

DEMOTED = (ReadOnlyError, MasterDownError)
"""The errors of a server that has become a replica; the second, if it serves no stale data."""


def once_more() -> dict[str, Any]:  # Any: arguments of redis-py
    """Return the options to repeat a failed call once, on a new connection in place of the old one."""
    return {"retry": Retry(NoBackoff(), 1), "retry_on_error": [ValkeyGone, *DEMOTED]}


class LeavingPool(ConnectionPool):
    """A pool that closes the connections from before a server said that it is a replica."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # Any: redis-py's business
        super().__init__(*arguments, **options)
        self.connection_class = _telling(self.connection_class, self._leave)
        self.left_at = 0.0
        """When a server last said that it is a replica, by `time.monotonic()`."""

    def _leave(self) -> None:
        self.left_at = time.monotonic()

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect; a connection that is older than the last demotion is closed first and opened anew."""
        if getattr(connection, "connected_at", 0.0) <= self.left_at:
            await connection.disconnect(nowait=True)  # guard: test_all_connections_to_a_demoted_valkey_are_left
        await super().ensure_connection(connection)


class BlockingLeavingPool(LeavingPool, BlockingConnectionPool):
    """A LeavingPool that lets callers wait for a free connection."""


def _telling(base: type[AbstractConnection], told: Callable[[], None]) -> type[AbstractConnection]:
    class TellingConnection(base):  # type: ignore[misc, valid-type]  # which of redis-py's depends on the URL
        connected_at = 0.0

        async def on_connect(self) -> None:
            await super().on_connect()
            self.connected_at = time.monotonic()

        async def read_response(self, *arguments: Any, **options: Any) -> Any:
            try:
                return await super().read_response(*arguments, **options)
            except DEMOTED:
                told()
                raise

    return TellingConnection
