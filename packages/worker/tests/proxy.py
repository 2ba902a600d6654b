"""A proxy in front of a real server, whose connections a test can cut."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from app_db import Database, open_database
from app_db.settings import DatabaseSettings
from app_runtime.testing.processes import free_port, port_is_free
from app_runtime.valkey import ValkeySettings

PATIENCE = 45.0  # seconds


class Proxy:
    """Forwards every byte until the test cuts or holds its connections."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self.exchanges = 0
        """How often a client spoke after the server had: the number of round trips."""
        self.cut_at: bytes | None = None
        """When the client sends these bytes, the server gets them, but the client never gets the answer."""
        self.hold_at: bytes | None = None
        """A chunk with these bytes sets `held` and is passed on only when `may_pass` is set."""
        self.held = asyncio.Event()
        self.may_pass = asyncio.Event()

    @property
    def url(self) -> str:
        """The server's URL with the address of the proxy."""
        credentials, _, _ = self._url.netloc.rpartition("@")
        return urlunsplit(self._url._replace(netloc=f"{credentials}@127.0.0.1:{self._port}"))

    @property
    def settings(self) -> ValkeySettings:
        """The settings of a Valkey behind the proxy."""
        return ValkeySettings.model_validate({"url": self.url, "timeout": 10})

    async def __aenter__(self) -> Self:
        # No outgoing connection gets a port of `free_port`, so `mend` can listen on it again.
        self._port = free_port()
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    def lead_to(self, url: str) -> None:
        """Lead new connections to another server; open ones stay where they are."""
        self._url = self._url._replace(netloc=urlsplit(url).netloc)

    async def cut(self) -> None:
        """Close all connections and accept no more."""
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def mend(self) -> None:
        """Accept connections, after a cut at the same address."""
        # A child process that is being started holds a copy of the closed socket until it calls exec.
        async with asyncio.timeout(PATIENCE):
            while not port_is_free(self._port):  # noqa: ASYNC110  another process
                await asyncio.sleep(0.01)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def _accept(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        server_reader, server = await asyncio.open_connection(self._url.hostname, self._url.port)
        self._writers |= {client, server}
        server_spoke = cutting = False

        async def to_server() -> None:
            nonlocal server_spoke, cutting
            while chunk := await client_reader.read(65536):
                self.exchanges += server_spoke
                server_spoke = False
                if self.cut_at is not None and self.cut_at in chunk:
                    self.cut_at, cutting = None, True
                if self.hold_at is not None and self.hold_at in chunk:
                    self.held.set()
                    await self.may_pass.wait()
                server.write(chunk)
            server.close()

        async def to_client() -> None:
            nonlocal server_spoke
            while (chunk := await server_reader.read(65536)) and not cutting:
                server_spoke = True
                client.write(chunk)
            client.close()

        await asyncio.gather(to_server(), to_client(), return_exceptions=True)


def over(proxy: Proxy) -> AbstractAsyncContextManager[Database]:
    """Open the application's engines over a connection that the test can cut."""
    return open_database(DatabaseSettings.model_validate({"url": proxy.url}), name="test-proxy")
