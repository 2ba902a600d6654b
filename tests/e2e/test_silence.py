"""A network that forgets the API's connections to Postgres: no FIN, no RST, and new ones are made as ever."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from httpx2 import AsyncClient, Response

from app_runtime.testing.network import Network

from .http_site import NO_HANG, HttpSite

IDLE = 5.5
"""Seconds: longer than APP_DATABASE__PING_AFTER_IDLE."""
READS, WRITES = 10, 5
"""Connections in each pool."""
SLOW = 0.4


async def timed(ask: Callable[[], Awaitable[Response]]) -> tuple[int, float]:
    began = time.monotonic()
    response = await ask()
    return response.status_code, time.monotonic() - began


async def silence(site: HttpSite) -> dict[str, list[tuple[int, float]]]:
    """Return status and seconds of the requests behind it, one after the other: reads, then writes."""
    host, _, port = site.role_dsn.rpartition("@")[2].partition("/")[0].partition(":")
    async with Network(host, int(port)).open() as network:
        place = f"127.0.0.1:{network.port}"
        api = site.start_api(APP_DATABASE__URL=site.role_dsn.replace(f"{host}:{port}", place))
        async with AsyncClient(base_url=api.url, timeout=NO_HANG) as client:

            async def read() -> Response:
                return await site.me(client=client)

            async def write() -> Response:
                return await site.register(client=client)

            await asyncio.gather(*(read() for _ in range(3 * READS)), *(write() for _ in range(3 * WRITES)))
            await asyncio.sleep(IDLE)
            network.forget()
            return {"reads": [await timed(read) for _ in range(READS + 2)],
                    "writes": [await timed(write) for _ in range(WRITES + 2)]}  # fmt: skip


async def test_connections_that_fell_silent_cost_one_wait_a_pool_and_no_request(http_site: HttpSite) -> None:
    """Issue 17.17: it was 7 to 9 times a 503 after 5 s for the reads, and then the same for the writes."""
    asked = await silence(http_site)

    for name, answers in asked.items():
        assert {status for status, _ in answers} <= {200, 201}, (name, answers)
        assert max(seconds for _, seconds in answers) < 3, (name, answers)
    assert sum(seconds > SLOW for _, seconds in asked["reads"]) <= 1, asked["reads"]
