"""TLS in front of the servers of the tests, which are built without it."""

import asyncio
import ssl
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""The bytes with which a client of Postgres asks for TLS; the server agrees with S."""


class TlsFront:
    """Takes TLS at `url` and forwards the bytes to a server. A client of Postgres has to send SSL_REQUEST first."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self._server_at = urlsplit(url)
        self._context = context
        self._is_postgres = self._server_at.scheme.startswith("postgres")
        self.passed = 0
        """Bytes from clients that accepted the certificate."""

    @property
    def url(self) -> str:
        """The server's URL with our port, and the host name of a good certificate."""
        credentials, at, _ = self._server_at.netloc.rpartition("@")
        scheme = self._server_at.scheme.replace("redis", "rediss")
        return self._server_at._replace(scheme=scheme, netloc=f"{credentials}{at}localhost:{self._port}").geturl()

    async def __aenter__(self) -> Self:
        context = None if self._is_postgres else self._context
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", ssl=context)
        self._port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._server.close_clients()
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):  # from a client that rejects the certificate
            if self._is_postgres:
                if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
                    return writer.close()
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._context)
            server_reader, server = await asyncio.open_connection(self._server_at.hostname, self._server_at.port)
            await asyncio.gather(self._pass_on(reader, server), self._pass_on(server_reader, writer, count=False))
        return None

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool = True) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65536):
                self.passed += len(chunk) * count
                writer.write(chunk)
                await writer.drain()
        writer.close()
