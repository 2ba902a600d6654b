"""Connections to Valkey that are left when the server on the other side takes no writes any more.

A demoted primary keeps its connections, and answers each write with READONLY (Valkey, "Replication"); whoever stays
there never finds the server that took over, although the address leads to it.
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
"""What a server says that is a replica by now; the second one, if it shows nothing that may be old."""


def once_more() -> dict[str, Any]:  # Any: arguments of redis-py
    """Return what lets a call be made again, once, on a new connection: the old one is closed, or shall be."""
    return {"retry": Retry(NoBackoff(), 1), "retry_on_error": [ValkeyGone, *DEMOTED]}


class LeavingPool(ConnectionPool):
    """A pool that closes what was opened before a server said that it is a replica."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # Any: redis-py's business
        super().__init__(*arguments, **options)
        self.connection_class = _telling(self.connection_class, self._leave)
        self.left_at = 0.0
        """When a server was last left, by `time.monotonic()`."""

    def _leave(self) -> None:
        self.left_at = time.monotonic()

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect, to wherever the address leads now if the connection is older than the last demotion."""
        if getattr(connection, "connected_at", 0.0) <= self.left_at:
            await connection.disconnect(nowait=True)  # guard: test_all_connections_to_a_demoted_valkey_are_left
        await super().ensure_connection(connection)


class BlockingLeavingPool(LeavingPool, BlockingConnectionPool):
    """The same, which lets callers wait for a free connection."""


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
