"""Connects to a server by its name, which may have several addresses."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Any

type Place = tuple[int, int, int, str, tuple[Any, ...]]  # Any: as getaddrinfo gives it


async def connect_to(host: str, port: int, *, timeout: float) -> socket.socket:  # noqa: ASYNC109  # shared out, below
    """Return a connection to the first address of a host that accepts one.

    Raises:
        OSError: no address accepts a connection; TimeoutError is one of these.
    """
    async with asyncio.timeout(timeout):
        places = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await connect_to_one(places, timeout=timeout)


async def connect_to_one(places: Sequence[Place], *, timeout: float) -> socket.socket:  # noqa: ASYNC109  # as above
    """Try the addresses one after the other, each for an equal part of the time.

    A name often has an IPv6 address without a route: it would use up the time of the other addresses.
    """
    share = timeout / len(places)
    for place in places[:-1]:
        with contextlib.suppress(OSError):
            return await _connect(place, share)
    return await _connect(places[-1], share)


async def _connect(place: Place, limit: float) -> socket.socket:
    family, kind, protocol, _, address = place
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(0)
        async with asyncio.timeout(limit):  # guard: test_an_address_that_is_silent_does_not_hide_the_next
            await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection
