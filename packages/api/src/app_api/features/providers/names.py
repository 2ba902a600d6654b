"""Connects to numbers: names of others are looked up in threads of their own.

Two look-ups that get no answer stop all others of a process on uvloop, also those of our database.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from ipaddress import ip_address
from typing import Final

import httpx2

THREADS: Final = 4


@cache  # guard: test_the_certificates_of_the_authorities_are_read_once
def authorities() -> ssl.SSLContext:
    """Return the authorities that this machine trusts, for 30 ms and 3 MB."""
    return httpx2.create_ssl_context(trust_env=False)


class NamedTransport(httpx2.AsyncBaseTransport):
    """A transport that looks up names itself; TLS asks the other side to prove the name, not the number."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "provider-names")
        self._connections: httpx2.AsyncHTTPTransport | None = None
        """Opened for the first request, which needs the authorities."""

    async def aclose(self) -> None:
        """Close what is open."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._connections is not None:
            await self._connections.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to the first address of its host that takes the connection."""
        host = request.url.host
        request.extensions["sni_hostname"] = host
        *first, last = await self._addresses_of(host)
        for address in first:
            with suppress(httpx2.ConnectError):
                return await self._send(request, address)
        return await self._send(request, last)

    async def _send(self, request: httpx2.Request, address: str) -> httpx2.Response:
        request.url = request.url.copy_with(host=address)
        if self._connections is None:
            trusted = await asyncio.to_thread(authorities)  # those above may all be busy with names
            # No connection is kept: one to a number could serve another name, which it has not proved.
            limits = httpx2.Limits(max_keepalive_connections=0)
            self._connections = httpx2.AsyncHTTPTransport(verify=trusted, trust_env=False, limits=limits)
        return await self._connections.handle_async_request(request)

    async def _addresses_of(self, host: str) -> list[str]:
        with suppress(ValueError):
            return [str(ip_address(host))]
        running = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host)
        try:
            return await running  # guard: test_a_name_that_nobody_knows_is_an_outage_of_the_provider
        except OSError as error:
            raise httpx2.ConnectError(f"nobody knows the name: {error}") from error


def _look_up(host: str) -> list[str]:
    return [*dict.fromkeys(_numbers(host))]


def _numbers(host: str) -> Iterator[str]:
    for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        yield str(address[0])
