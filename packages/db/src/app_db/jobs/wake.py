"""Telling the relays that there is work, without a cost to the transactions that made it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import timedelta

import asyncpg

CHANNEL = "jobs"
DEBOUNCE = timedelta(milliseconds=5)

# What a connection raises when the server is gone, frozen or refuses it.
LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


class Waker:
    """Sends at most one NOTIFY per `DEBOUNCE`, on an autocommit connection of its own.

    A wake-up that cannot be sent is dropped: relays poll each second besides, so it costs a second, never a job.
    """

    def __init__(self, dsn: str, *, connect_timeout: timedelta) -> None:
        self._dsn = dsn
        self._timeout = connect_timeout.total_seconds()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._task: asyncio.Task[None] | None = None
        self._due = False

    def wake(self) -> None:
        """Ask for a NOTIFY soon. Returns at once; calls within `DEBOUNCE` share one."""
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
            await asyncio.sleep(DEBOUNCE.total_seconds())
            self._due = False
            with suppress(*LOST):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(self._dsn, timeout=self._timeout)
                await self._connection.execute(f"NOTIFY {CHANNEL}", timeout=self._timeout)


async def notifications(dsn: str, *, connect_timeout: timedelta) -> AsyncGenerator[None]:
    """LISTEN, and yield once at the start, for what was missed before, and then after each NOTIFY.

    Raises:
        OSError, asyncpg.PostgresError, TimeoutError: when the server cannot be reached or the connection is lost.
    """
    woken = asyncio.Event()
    connection = await asyncpg.connect(dsn, timeout=connect_timeout.total_seconds())
    try:
        connection.add_termination_listener(lambda _: woken.set())
        await connection.add_listener(CHANNEL, lambda *_: woken.set())
        while True:
            yield
            await woken.wait()
            woken.clear()
            if connection.is_closed():
                lost = "the connection that listens was lost"
                raise ConnectionResetError(lost)  # guard: test_a_relay_hears_that_its_connection_was_lost
    finally:
        await connection.close(timeout=connect_timeout.total_seconds())
