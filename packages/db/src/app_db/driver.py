"""An asyncpg connection that checks its commits, and knows why a transaction ended."""

import asyncio
import contextlib
import socket
import time
from datetime import timedelta
from typing import Any, NamedTuple

import asyncpg

IDLE_LIMIT = "idle_in_transaction_session_timeout"
TOTAL_LIMIT = "transaction_timeout"
PATIENCE_WITH_A_GOODBYE = 0.5
"""Seconds to cancel an abandoned statement and close its connection: another caller waits for its place in the pool."""
_UNACKNOWLEDGED = [
    (getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_USER_TIMEOUT", 3000))
    if hasattr(socket, name)  # macOS has other names for some of them; pings find the loss there
]
"""Seconds before the first probe of an idle connection and between probes; milliseconds without an acknowledgement."""
_TICK = timedelta(milliseconds=50)
"""How much client and server may differ when they measure a limit."""


class Limits(NamedTuple):
    """The time limits of a transaction in the server; None is no limit."""

    idle: timedelta
    total: timedelta


NO_LIMITS = Limits(timedelta(0), timedelta(0))


class TransactionFailed(Exception):
    """A transaction was used, or committed, after an error in it had been caught outside of a savepoint.

    PostgreSQL rolls such a transaction back, and reports no error for its COMMIT.
    """

    def __init__(self, swallowed: "Swallowed | None" = None) -> None:
        by = f": {swallowed.text}" if swallowed else ""
        super().__init__(f"nothing of this transaction was kept: an error in it was caught outside of a savepoint{by}")
        self.swallowed = swallowed


class TransactionDivided(Exception):
    """Code ended a transaction that only its caller may end: a part of it was lost, or committed too early."""

    def __init__(self) -> None:
        super().__init__(
            "the transaction was ended before its edge committed it: flush, use begin_nested() for what may fail, and "
            "call neither commit() nor rollback()"
        )


class Swallowed:
    """An error in a transaction, which code may have caught; without its traceback, which would keep frames alive."""

    __slots__ = ("sqlstate", "text")

    def __init__(self, error: BaseException) -> None:
        self.sqlstate: str | None = getattr(error, "sqlstate", None)
        # The first argument is Postgres's message; its DETAIL may quote stored values.
        self.text = f"{type(error).__name__}: {error.args[0] if error.args else error}"


class TransactionEnded(Exception):
    """Postgres ended a transaction that had reached a limit of its own."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"Postgres ended the transaction: it reached its {limit}")


class DriverConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that raises when a COMMIT did not commit, with the error that caused it."""

    def __init__(self, *args: Any, **options: Any) -> None:  # Any: passed on to asyncpg
        super().__init__(*args, **options)
        self.opened_at = self.prepared_at = self.idle_since = time.monotonic()
        """`idle_since`: when a statement succeeded last."""
        self.connected_in = 0.0
        """Seconds that connecting took."""
        self.session_limits = self.limits = NO_LIMITS
        self.swallowed: Swallowed | None = None
        """The last error of this transaction."""
        self.lost_at: float | None = None
        self._began_at: float | None = None
        self.add_termination_listener(_note_loss)
        _notice_silence(self._transport)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109  # as asyncpg
        """Execute as asyncpg does, and raise when Postgres replied ROLLBACK to a COMMIT.

        Raises:
            TransactionFailed: nothing was kept, since the transaction had failed before.
        """
        status: str = await super().execute(query, *args, timeout=timeout)
        if status == "BEGIN":
            self.swallowed, self.limits = None, self.session_limits
            self._began_at = self.idle_since = time.monotonic()
        elif status == "COMMIT":
            self._began_at = None
        elif status == "ROLLBACK":
            self._began_at = None
            if query.startswith("COMMIT"):
                raise TransactionFailed(self.swallowed)  # guard: test_a_commit_that_rolled_back_is_an_error
        return status

    async def fetch_read_only(self, query: str, *args: Any) -> Any:  # Any: as asyncpg
        """Fetch in a transaction of its own, which cannot write."""
        await self.execute("BEGIN READ ONLY")
        try:
            rows = await self.fetch(query, *args)
        except (asyncpg.PostgresError, asyncpg.InterfaceError):
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await self.execute("ROLLBACK")
            raise
        await self.execute("COMMIT")
        return rows

    async def prepare(self, query: str, **options: Any) -> Any:  # Any: as asyncpg
        """Prepare as asyncpg does, and note when: `app_db.dialect` tells new statements from those that worked once."""
        self.prepared_at = time.monotonic()
        return await super().prepare(query, **options)

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as asyncpg
        """Close the connection within a short time: the caller that gave it up has no time left."""
        await super().close(timeout=min(timeout or PATIENCE_WITH_A_GOODBYE, PATIENCE_WITH_A_GOODBYE))

    async def recover(self) -> None:
        """End what a cancelled caller has left, and return once the server waits for the next statement.

        It may take half a second longer than a new connection.

        Raises:
            Exception: the server has not confirmed it; the connection must not be used again.
        """
        async with asyncio.timeout(self.connected_in + PATIENCE_WITH_A_GOODBYE):
            # The server has closed the connection of asyncpg's cancel request, and the statement has ended.
            await self._protocol._wait_for_cancellation()  # noqa: SLF001  # guard: test_a_transaction_that_just_began_is_rolled_back
            # Also where no transaction is open: what was prepared, but not executed, ends with it.
            await self.execute("ROLLBACK" if self.is_in_transaction() else "SELECT")
        assert not self.is_in_transaction(), "what a server says that has rolled back"
        self._top_xact = None  # asyncpg notes it before BEGIN
        self._began_at = None

    def limit(self, *, idle: timedelta, total: timedelta) -> None:
        """Note the time limits of this transaction in the server."""
        self.limits = Limits(idle, total)
        self._began_at = time.monotonic()

    def limit_that_ended_it(self) -> str | None:
        """Return the name of the timeout by which the server ended the transaction; None if none did.

        Derived from times: the server sends the reason while no statement runs, and asyncpg does not keep it.
        """
        # asyncpg calls its listeners a turn of the loop late (findings/asyncpg-tells-of-its-end-a-turn-later.sh).
        lost_at = self.lost_at
        if lost_at is None and self.is_closed():
            lost_at = time.monotonic()  # guard: test_a_limit_is_named_while_the_connection_closes
        if lost_at is None or self._began_at is None:
            return None
        idle, lasted = timedelta(seconds=lost_at - self.idle_since), timedelta(seconds=lost_at - self._began_at)
        if self.limits.idle and idle >= self.limits.idle - _TICK:
            return IDLE_LIMIT
        if self.limits.total and lasted >= self.limits.total - _TICK:
            return TOTAL_LIMIT
        return None


def _notice_silence(transport: asyncio.Transport) -> None:
    """Let the kernel close a connection whose other side acknowledges nothing: it vanished without FIN or RST.

    Slow statements are not affected: the kernel of a busy or frozen server acknowledges at once what it receives.
    """
    own = transport.get_extra_info("socket")
    if own.family != socket.AF_UNIX:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _UNACKNOWLEDGED:
            own.setsockopt(socket.IPPROTO_TCP, option, value)


def _note_loss(connection: Any) -> None:  # Any: of asyncpg
    connection.lost_at = time.monotonic()
