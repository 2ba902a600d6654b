"""A lock on a shared server: one test run at a time may make and drop its test databases (ADR-0010)."""

import asyncio
import socket
from contextlib import suppress

import asyncpg
from sqlalchemy import make_url

KEY = int.from_bytes(b"app-test")
HOLDER = """
    SELECT application_name, client_addr, to_char(backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') AS since
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND (classid::bigint << 32) + objid::bigint = $1
"""


class ServerTaken(Exception):
    """Another test run has this server; the message says which."""


class Claim:
    """A lock on the server while this process lives, because the test databases have the same names in every run."""

    def __init__(self, server_url: str, *, who: str) -> None:
        """Take the lock.

        Raises:
            ServerTaken: says who has it.
        """
        # Not asyncio.run: the connection, and with it the lock, has to outlive the call.
        self._loop = asyncio.new_event_loop()
        url = make_url(server_url).set(drivername="postgresql", database="postgres")
        dsn = url.render_as_string(hide_password=False)
        try:
            self._connection = self._loop.run_until_complete(self._take(dsn, who))
        except BaseException:
            self._loop.close()
            raise

    def release(self) -> None:
        """Release the lock for the next test run."""
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # a server that ended holds nothing
            self._loop.run_until_complete(self._connection.close(timeout=5))
        self._loop.close()

    async def _take(self, dsn: str, who: str) -> "asyncpg.Connection[asyncpg.Record]":
        name = f"{socket.gethostname()}: {who}"
        connection = await asyncpg.connect(dsn, server_settings={"application_name": name})
        if await connection.fetchval("SELECT pg_try_advisory_lock($1)", KEY):
            return connection  # guard: test_a_second_run_on_the_same_server_says_who_has_it
        holder = await connection.fetchrow(HOLDER, KEY)
        await connection.close()
        told = f" ({holder['application_name']}, since {holder['since']})" if holder else ""
        raise ServerTaken(
            f"another test run has the databases of the server in APP_DATABASE__URL{told}: wait for its end, "
            "or run without that variable, on a server of your own"
        )
