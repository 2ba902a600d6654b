"""Postgres is far away: how often an API process crosses the network for a sign-in, and how far it may be."""

import asyncio

import pytest
from httpx2 import AsyncClient

from app_runtime.testing.network import Network

from .http_site import NO_HANG, HttpSite
from .processes import Api


def distant(site: HttpSite, network: Network) -> Api:
    """Start one more process, whose way to Postgres is this network."""
    here = f"127.0.0.1:{network.port}"
    return site.start_api(APP_DATABASE__URL=site.role_dsn.replace(f"127.0.0.1:{site.postgres.port}", here))


async def test_a_sign_in_costs_few_round_trips(http_site: HttpSite) -> None:
    """Before, 27 and 9: SQLAlchemy asked each server four questions, and each table had a statement of its own."""
    async with Network("127.0.0.1", http_site.postgres.port).open() as network:
        api = distant(http_site, network)
        async with AsyncClient(base_url=api.url, timeout=NO_HANG) as client:
            counts = []
            for _ in range(3):
                before = network.round_trips
                assert (await http_site.login(client=client)).status_code == 200
                counts.append(network.round_trips - before)

    assert counts[0] <= 12  # the first connection of the process, and three statements that it prepares
    assert counts[1:] == [5, 5]


@pytest.mark.parametrize("round_trip", [0.3])
async def test_the_time_outs_are_made_for_a_postgres_on_another_continent(
    http_site: HttpSite, round_trip: float
) -> None:
    """Before, no sign-in ever succeeded at 300 ms: each began with a new connection, and had not enough time for it."""
    async with Network("127.0.0.1", http_site.postgres.port, round_trip=round_trip).open() as network:
        api = distant(http_site, network)
        async with AsyncClient(base_url=api.url, timeout=NO_HANG) as client:
            answers = [(await http_site.login(client=client)).status_code for _ in range(2)]
            answers += [(await http_site.me(client=client)).status_code for _ in range(2)]

    assert answers == [200, 200, 200, 200]


async def test_a_sign_in_that_was_cut_off_leaves_a_warm_connection(http_site: HttpSite) -> None:
    """Before, no sign-in ever succeeded at 450 ms: its deadline cut off the first, which took its connection along."""
    async with Network("127.0.0.1", http_site.postgres.port, round_trip=0.45).open() as network:
        api = distant(http_site, network)
        async with AsyncClient(base_url=api.url, timeout=NO_HANG) as client:
            first = await http_site.login(client=client)
            await asyncio.sleep(1.5)  # to cancel the statement and roll back takes 3 round trips
            before = network.round_trips
            second = await http_site.login(client=client)

    assert (first.status_code, second.status_code) == (503, 200)
    assert network.round_trips - before <= 7


async def test_a_process_far_from_postgres_becomes_ready(http_site: HttpSite) -> None:
    """Before, never: a new connection and its first statement take longer than a check, which took both along."""
    async with Network("127.0.0.1", http_site.postgres.port, round_trip=0.3).open() as network:
        api = distant(http_site, network)
        async with AsyncClient(base_url=api.url, timeout=NO_HANG) as client:
            statuses = []
            for _ in range(5):
                statuses.append((await client.get("/probe/ready")).status_code)
                await asyncio.sleep(1.5)

    assert statuses[-2:] == [200, 200]
