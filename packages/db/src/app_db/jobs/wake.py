"""Telling the relays that there is work, without a cost to the transactions that made it."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from hashlib import sha256

import asyncpg

from app_db.hosts import Hosts

CHANNEL = "jobs"
DEBOUNCE = timedelta(milliseconds=5)

RETRY_LOCKS = timedelta(seconds=1)

# What a connection raises when the server is gone, frozen or refuses it; the third, when a blocked event loop let a
# command time out while its answer was waiting to be read.
LOST = (OSError, asyncpg.PostgresError, asyncpg.InternalClientError, asyncpg.InterfaceError, TimeoutError)


class Waker:
    """Sends at most one NOTIFY per `DEBOUNCE`, on an autocommit connection of its own.

    A wake-up that cannot be sent is dropped: relays poll each second besides, so it costs a second, never a job.
    """

    def __init__(self, dsn: str, *, connect_timeout: timedelta) -> None:
        self._hosts = Hosts(dsn, connect_timeout=connect_timeout)
        self._timeout = connect_timeout.total_seconds()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._task: asyncio.Task[None] | None = None
        self._due = False

    def wake(self) -> None:
        """Ask for a NOTIFY: at once, or `DEBOUNCE` after the last one. Does not wait for it."""
        self._due = True  # guard: test_a_wake_while_another_is_being_sent_is_sent_too
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._notify())

    async def close(self) -> None:
        """Send what is due and close the connection."""
        if self._task is not None:
            await self._task
        if self._connection is not None:
            await self._connection.close(timeout=self._timeout)

    async def _notify(self) -> None:
        while self._due:
            self._due = False
            try:
                if self._connection is None or self._connection.is_closed():
                    # There is nothing to keep, and nobody is told before the commit: it need not wait for the disk.
                    settings = {"application_name": "waker", "synchronous_commit": "off"}
                    self._connection = await self._hosts.connect(server_settings=settings)
                await self._connection.execute(f"NOTIFY {CHANNEL}", timeout=self._timeout)
            except LOST:
                if self._connection is not None:  # its host may be gone, or be a standby by now
                    self._connection.terminate()  # guard: test_a_waker_leaves_a_server_that_takes_no_notify
            # Afterwards, so that nobody waits for the first one.
            await asyncio.sleep(DEBOUNCE.total_seconds())


class Leadership:
    """One connection of a worker process: it hears the wake-ups, and holds the locks of the queues that it leads.

    Of all processes that serve a queue one leads it and dispatches its jobs; when its connection ends, another takes
    over within seconds. For a moment two may believe that they lead: that has to be harmless, and saves no more than
    work when it is not so.
    """

    def __init__(
        self,
        dsn: str,
        queues: Iterable[str],
        *,
        connect_timeout: timedelta,
        woken: Callable[[], None],
        patience: timedelta = timedelta(seconds=10),
    ) -> None:
        """Make one that leads nothing yet.

        Args:
            dsn: past any pooler.
            queues: those that this process serves.
            connect_timeout: also for each statement: a frozen server must not keep us believing that we lead.
            woken: called at each NOTIFY, and whenever one may have been missed.
            patience: when it has heard nothing for so long the server hangs up, so that another process may lead: this
                one is frozen, or its host is gone.
        """
        self._hosts = Hosts(dsn, connect_timeout=connect_timeout)
        self._timeout = connect_timeout.total_seconds()
        self._queues = {_lock_key(queue): queue for queue in queues}
        self._woken = woken
        self._patience = patience
        self._led: set[str] = set()

    def leads(self, queue: str) -> bool:
        """Return whether this process is to dispatch the jobs of `queue`."""
        return queue in self._led

    async def run(self) -> None:
        """Listen, and try for the locks that others hold each second; never return.

        Raises:
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError: when the server cannot be reached, or
                the connection was lost. It leads nothing then; call again.
        """
        connection = await self._connect()
        try:
            await connection.add_listener(CHANNEL, lambda *_: self._woken())
            self._woken()
            while True:
                await self._try_to_lead(connection)
                await asyncio.sleep(RETRY_LOCKS.total_seconds())
        finally:
            self._led.clear()  # guard: test_who_lost_the_connection_leads_nothing
            connection.terminate()  # at once, where a goodbye to a frozen server would have to wait

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        patience = f"{self._patience / timedelta(milliseconds=1):.0f}"
        return await self._hosts.connect(
            command_timeout=self._timeout,
            server_settings={"application_name": "worker-leader", "idle_session_timeout": patience},
        )

    async def _try_to_lead(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Also shows the server, and us, that the other side lives."""
        missing = [key for key, queue in self._queues.items() if queue not in self._led]
        won = await connection.fetch(
            "SELECT key FROM unnest($1::bigint[]) AS key WHERE pg_try_advisory_lock(key)", missing
        )
        if won:
            self._led.update(self._queues[row["key"]] for row in won)
            self._woken()


def _lock_key(queue: str) -> int:
    """Return a number that is the same in every process, and nobody else's."""
    return int.from_bytes(sha256(f"app.jobs.queue:{queue}".encode()).digest()[:8], signed=True)
