"""The supervision of an engine's connections: which may be used, and what follows when one fails."""

import time
from collections import Counter
from datetime import timedelta

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from app_db.dialect import dialect_of
from app_db.driver import IDLE_LIMIT, TOTAL_LIMIT, DriverConnection, Swallowed, TransactionEnded, TransactionFailed
from app_db.outage import IN_FAILED_TRANSACTION, READ_ONLY, is_damage, naming_no_answer, said_by_the_server

UNKNOWN = "08003"
"""SQLSTATE of a lost connection, if the server gave none."""
LIMITS = {"25P03": IDLE_LIMIT, "25P04": TOTAL_LIMIT}
KINDS = ("damaged", "refused", "silent", "unreachable")
"""The kinds of failures in `Database.failures`."""

UNNOTICED = "unnoticed"
"""In the `info` of a connection: it idles on. What asks now and then would keep it from being pinged, and closed."""


def ping_when_idle(engine: AsyncEngine, *, after: timedelta, timeout: timedelta, failures: Counter[str]) -> None:
    """Ping at checkout, but only connections idle for `after`: `pool_pre_ping` costs each request three round trips.

    A connection that is known to be closed, or to lead to a server that was left, is replaced without a ping.
    """
    limit, patience, dialect = after.total_seconds(), timeout.total_seconds(), dialect_of(engine)

    @event.listens_for(engine.sync_engine, "checkin")
    def note_time(connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        if entry.info.pop(UNNOTICED, False) and "idle_since" in entry.info:
            return  # guard: test_a_look_at_the_limit_makes_no_connection_younger
        entry.info["idle_since"] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def ping_if_idle(connection: DBAPIConnection, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        driver = connection.driver_connection
        assert isinstance(driver, DriverConnection), "what app_db.hosts makes"
        if driver.is_closed():  # by the server or a proxy
            raise DisconnectionError  # guard: test_a_connection_that_was_closed_while_idle_is_not_used
        if driver.opened_at <= dialect.left_at:
            raise InvalidatePoolError  # guard: test_reads_leave_a_server_that_only_reads_with_the_writes
        now = time.monotonic()
        idle_since = entry.info.get("idle_since", now)
        if now - idle_since < limit and idle_since > dialect.suspected_at:
            return
        try:
            # One round trip behind any pooler; SQLAlchemy's own ping makes three, each with the timeout of a command.
            proxy.run_async(lambda driver: driver.execute("SELECT", timeout=patience))
        except BaseException as error:
            # The server was restarted or is unreachable: all connections opened before now are lost, too.
            dialect.condemn()
            if not isinstance(error, Exception):
                raise
            failures["silent"] += isinstance(error, TimeoutError)
            raise InvalidatePoolError from error  # guard: test_requests_at_once_are_all_served_after_one_wait


def watch_errors(engine: AsyncEngine, *, failures: Counter[str], only_reads: bool) -> None:
    """Wrap bare errors of asyncpg, and stop using connections that are lost."""
    dialect = dialect_of(engine)

    @event.listens_for(engine.sync_engine, "handle_error")
    def look(context: ExceptionContext) -> None:
        error = context.original_exception
        if not isinstance(error, Exception):  # a cancelled caller may have waited for a lost connection
            dialect.suspect()  # guard: test_after_a_wait_in_vain_each_connection_is_asked_before_it_is_used
            return
        if isinstance(error, OSError):  # a command took longer than the server's own, shorter limit
            dialect.condemn()
            dialect.leave()  # guard: test_a_connection_that_falls_silent_is_left_with_all_others
            failures["silent"] += 1
            context.is_disconnect = True
            with naming_no_answer():
                raise error
        state: str | None = getattr(error, "sqlstate", None)
        if state == READ_ONLY and not only_reads:  # another server may be the primary now
            context.is_disconnect = True  # guard: test_a_server_that_only_reads_is_left
        failures["damaged"] += is_damage(error)
        driver = _driver_of(context)
        if driver is None or isinstance(error, TransactionFailed):
            return
        heard: str = getattr(said_by_the_server(error), "sqlstate", None) or UNKNOWN
        if (limit := LIMITS.get(heard) or (driver.limit_that_ended_it() if heard == UNKNOWN else None)) is not None:
            raise TransactionEnded(limit)  # guard: test_a_transaction_that_idles_for_too_long_is_named
        if state == IN_FAILED_TRANSACTION:
            raise TransactionFailed(driver.swallowed)  # guard: test_who_goes_on_in_a_failed_transaction_is_told
        driver.swallowed = Swallowed(error.__cause__ or error)  # guard: test_a_commit_names_the_error_that_was_caught


def leave_together(engine: AsyncEngine, reads: AsyncEngine) -> None:
    """Let the read engine leave a server together with the write engine."""
    dialect = dialect_of(reads)

    @event.listens_for(engine.sync_engine, "handle_error")
    def look(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
            dialect.leave()


def _driver_of(context: ExceptionContext) -> DriverConnection | None:
    """Return the connection that failed; None if none was made."""
    driver = context.connection and context.connection.connection.driver_connection
    return driver if isinstance(driver, DriverConnection) else None
