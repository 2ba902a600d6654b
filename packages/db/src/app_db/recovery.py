"""Keeps a connection whose caller left while a statement ran: to a server far away, a new one costs a second or more.

asyncpg cancels the statement on a connection of its own. Only a server that has confirmed the end of the statement, and
of its transaction, is asked anything again on the same connection; any other answer, or none, closes it.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import Pool
from sqlalchemy.pool.base import _ConnectionRecord
from sqlalchemy.util import await_only

from app_db.driver import PATIENCE_WITH_A_GOODBYE

type Finalize = Callable[[DBAPIConnection], None]


class PoolEntry(_ConnectionRecord):
    """A connection of a pool, or a place for one, or one that is recovered after its caller was cancelled."""

    recovering: asyncio.Task[DBAPIConnection | None] | None = None

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool, connect=False)

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:  # noqa: FBT001, FBT002  # SQLAlchemy's
        """Close the connection, or recover it if its caller was cancelled; wait a moment for that."""
        connection = self.dbapi_connection
        if connection is None or not isinstance(e, asyncio.CancelledError):
            super().invalidate(e, soft)
            return
        self.dbapi_connection = None
        finalizers = [self.finalize_callback.pop() for _ in range(len(self.finalize_callback))]
        # A task of its own, because the caller may be cancelled again, and in no caller's context.
        self.recovering = asyncio.create_task(_recover(connection, finalizers), context=Context())
        # Near servers are done by then, so the caller goes on when its locks are released.
        await_only(asyncio.wait([self.recovering], timeout=PATIENCE_WITH_A_GOODBYE))

    def take_back(self) -> None:
        """Take the connection that was recovered, or none if it was lost."""
        assert self.recovering is not None
        self.dbapi_connection, self.recovering = self.recovering.result(), None


async def _recover(
    connection: Any,  # Any: SQLAlchemy has no type for its adapter
    finalizers: list[Finalize],
) -> DBAPIConnection | None:
    """Return the connection as a caller may find it in a pool; if that fails, close it and return None."""
    driver = connection.driver_connection
    try:
        await driver.recover()
        connection._transaction = None  # noqa: SLF001  # as its own terminate() does
        for finalize in finalizers:
            finalize(connection)  # guard: test_a_query_alone_that_is_cancelled_leaves_a_connection_for_transactions
    except (Exception, asyncio.CancelledError):
        driver.terminate()  # guard: test_a_connection_that_confirms_nothing_is_closed
        return None
    recovered: DBAPIConnection = connection
    return recovered
