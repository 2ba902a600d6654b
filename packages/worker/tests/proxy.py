"""A connection that a test can cut, between us and a real server."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from app_db import Database, open_database
from app_db.settings import DatabaseSettings
from app_runtime.testing.processes import free_port, port_is_free
from app_runtime.valkey import ValkeySettings

PATIENCE = 90.0  # seconds


class Proxy:
    """Forwards every byte, until it is told not to."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self.exchanges = 0
        """How often a client spoke after the server had: the number of round trips."""
        self.cut_at: bytes | None = None
        """Once the client has sent this, the server still gets it, but the client never hears the answer."""
        self.hold_at: bytes | None = None
        """What holds this is passed on only when `may_pass` is set; `held` tells that it is there."""
        self.held = asyncio.Event()
        self.may_pass = asyncio.Event()

    @property
    def url(self) -> str:
        """The server's URL, by way of the proxy."""
        credentials, _, _ = self._url.netloc.rpartition("@")
        return urlunsplit(self._url._replace(netloc=f"{credentials}@127.0.0.1:{self._port}"))

    @property
    def settings(self) -> ValkeySettings:
        """Of a Valkey, by way of the proxy."""
        return ValkeySettings.model_validate({"url": self.url, "timeout": 10})

    async def __aenter__(self) -> Self:
        # One that no outgoing connection is given: `mend` takes it back.
        self._port = free_port()
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    def lead_to(self, url: str) -> None:
        """Lead connections that are made from now on to another server; those that there are stay where they are."""
        self._url = self._url._replace(netloc=urlsplit(url).netloc)

    async def cut(self) -> None:
        """Close all connections and accept none any more."""
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def mend(self) -> None:
        """Accept connections, after a cut at the same address."""
        # A program that is just being started holds the closed socket until it is executed.
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
