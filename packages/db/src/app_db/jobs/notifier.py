"""Notifies the relays that jobs are due, at no cost to the transactions that enqueue them."""

import asyncio
from datetime import timedelta

import asyncpg

from app_db.hosts import Hosts

CHANNEL = "jobs"
DEBOUNCE = timedelta(milliseconds=5)

# Errors of a connection whose server is gone, frozen or refuses it. asyncpg raises an InternalClientError if a blocked
# event loop let a command time out while its reply was waiting to be read.
CONNECTION_LOST = (OSError, asyncpg.PostgresError, asyncpg.InternalClientError, asyncpg.InterfaceError, TimeoutError)


class Notifier:
    """Sends at most one NOTIFY per `DEBOUNCE`, on an autocommit connection of its own.

    A notification that cannot be sent is dropped: relays also poll each second, so a job starts a second later.
    """

    def __init__(self, dsn: str, *, connect_timeout: timedelta) -> None:
        self._hosts = Hosts(dsn, connect_timeout=connect_timeout)
        self._timeout = connect_timeout.total_seconds()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._task: asyncio.Task[None] | None = None
        self._due = False

    def notify(self) -> None:
        """Ask for a NOTIFY: at once, or `DEBOUNCE` after the last one. Does not wait for it."""
        self._due = True  # guard: test_a_notification_while_another_is_being_sent_is_sent_too
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def close(self) -> None:
        """Send a notification that is still due, and close the connection."""
        if self._task is not None:
            await self._task
        if self._connection is not None:
            await self._connection.close(timeout=self._timeout)

    async def _send(self) -> None:
        while self._due:
            self._due = False
            try:
                if self._connection is None or self._connection.is_closed():
                    # A NOTIFY writes no data, so its commit need not wait for the disk.
                    settings = {"application_name": "notifier", "synchronous_commit": "off"}
                    self._connection = await self._hosts.connect(server_settings=settings)
                await self._connection.execute(f"NOTIFY {CHANNEL}", timeout=self._timeout)
            except CONNECTION_LOST:
                if self._connection is not None:  # its host may be gone, or be a standby by now
                    self._connection.terminate()  # guard: test_a_notifier_leaves_a_server_that_takes_no_notify
            # Sleep after the NOTIFY, so that the first one is sent at once.
            await asyncio.sleep(DEBOUNCE.total_seconds())
