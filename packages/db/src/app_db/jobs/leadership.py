"""Leaders of queues: the worker process that holds the advisory lock of a queue leads it."""

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from hashlib import sha256

import asyncpg

from app_db.driver import DriverConnection
from app_db.hosts import Hosts
from app_db.jobs.notifier import CHANNEL
from app_db.pooler import WrongPooling, connect_past

RETRY_LOCKS = timedelta(seconds=1)

_THIS_SESSION = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
# The pid alone is not enough: on another server, or later on this one, another session may have it.
_END_SESSION = "SELECT pg_terminate_backend(pid, $3) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"


class Leadership:
    """One connection of a worker process: it listens for notifications, and holds the locks of the queues it leads.

    Of all processes that serve a queue, one leads it and claims its jobs. When the leader's connection ends, another
    process takes over within seconds. For a moment two processes may both believe that they lead: two leaders must do
    no harm. Having one only saves work.
    """

    def __init__(
        self,
        dsn: str,
        queues: Iterable[str],
        *,
        connect_timeout: timedelta,
        on_notification: Callable[[], None],
        patience: timedelta = timedelta(seconds=10),
    ) -> None:
        """Lead nothing yet.

        Args:
            dsn: past any pooler.
            queues: the queues that this process serves.
            connect_timeout: also for each statement: while a server is frozen, this process must not believe that it
                leads.
            on_notification: called at each NOTIFY, and whenever one may have been missed.
            patience: the server closes a connection that was silent for so long, because the process is frozen or its
                host is gone. Another process can lead then.
        """
        self._hosts = Hosts(dsn, connect_timeout=connect_timeout)
        self._timeout = connect_timeout.total_seconds()
        self._queues = {_lock_key(queue): queue for queue in queues}
        self._on_notification = on_notification
        self._patience = patience
        self._led: set[str] = set()
        self._well_at = time.monotonic()
        self.refusal = ""
        """Why this process can neither listen nor lead, if a pooler is the reason."""
        self._last_session: asyncpg.Record | None = None

    def leads(self, queue: str) -> bool:
        """Return whether this process claims the jobs of `queue`."""
        return queue in self._led

    @property
    def lost_for(self) -> float:
        """Seconds since this process could listen, and ask for locks."""
        return time.monotonic() - self._well_at

    async def run(self) -> None:
        """Listen, and try each second for the locks that other processes hold; never return.

        Raises:
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError: when the server cannot be reached, or
                the connection was lost. The process leads nothing then; call again.
        """
        try:
            connection = await self._connect()
        except WrongPooling as error:
            self.refusal = str(error)
            raise
        try:
            await self._end_last_session(connection)  # guard: test_who_lost_a_silent_connection_leads_again_at_once
            await connection.add_listener(CHANNEL, lambda *_: self._on_notification())
            self._on_notification()
            while True:
                await self._try_to_lead(connection)
                self._well_at, self.refusal = time.monotonic(), ""
                await asyncio.sleep(RETRY_LOCKS.total_seconds())
        finally:
            self._led.clear()  # guard: test_who_lost_the_connection_leads_nothing
            connection.terminate()  # a regular close would wait for a frozen server

    async def _connect(self) -> DriverConnection:
        patience = f"{self._patience / timedelta(milliseconds=1):.0f}"
        connect = partial(
            self._hosts.connect,
            command_timeout=self._timeout,
            server_settings={"application_name": "worker-leader", "idle_session_timeout": patience},
        )
        return await connect_past(connect)

    async def _end_last_session(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """End the session of the lost connection, which holds its locks while the server takes it for alive."""
        if self._last_session is not None:
            milliseconds = round(self._timeout * 500)  # half of the time that a statement has
            await connection.execute(_END_SESSION, *self._last_session.values(), milliseconds)
        self._last_session = await connection.fetchrow(_THIS_SESSION)

    async def _try_to_lead(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Try for the missing locks; the statement also shows server and client that the other side is alive."""
        missing = [key for key, queue in self._queues.items() if queue not in self._led]
        won = await connection.fetch(
            "SELECT key FROM unnest($1::bigint[]) AS key WHERE pg_try_advisory_lock(key)", missing
        )
        if won:
            self._led.update(self._queues[row["key"]] for row in won)
            self._on_notification()


def _lock_key(queue: str) -> int:
    """Return a number that is the same in every process, and that no other lock of the application has."""
    return int.from_bytes(sha256(f"app.jobs.queue:{queue}".encode()).digest()[:8], signed=True)
