"""Connections that fall silent: a network that forgets them sends no FIN and no RST.

Firewalls and address translation drop idle connections without telling either side (RFC 5382, 5).
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from app_db import Database, open_database
from app_db.driver import PATIENCE_WITH_A_GOODBYE
from app_db.hosts import Hosts
from app_db.outage import DatabaseUnavailable
from app_db.settings import DatabaseSettings
from app_runtime.testing.network import Network

pytestmark = pytest.mark.integration

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]

ALWAYS = timedelta(0)
NEVER = timedelta(hours=1)
ONE = text("SELECT 1")
SIZE = 4
PING = 2.0
"""Seconds of a vain wait; a later request that takes as long has met a second silent connection."""


@pytest_asyncio.fixture(loop_scope="session")
async def network(database: Database) -> AsyncIterator[Network]:
    url = database.settings.sqlalchemy_url
    async with Network(url.host or "", url.port or 5432).open() as network:
        yield network


@asynccontextmanager
async def over(network: Network, database: Database, **changes: Any) -> AsyncIterator[Database]:
    """Open the database over the network, and use SIZE connections of each engine once."""
    url = database.settings.sqlalchemy_url.set(host="127.0.0.1", port=network.port)
    given = {"url": url.render_as_string(hide_password=False), "pool_size": SIZE, "read_pool_size": SIZE}
    given |= {"request_timeout": 30, "connect_timeout": 20, "pool_timeout": 20}  # for a busy machine
    settings = DatabaseSettings.model_validate({**given, **changes})
    async with open_database(settings, name="test") as opened:
        for read_only in (True, False):
            await use_all(opened, read_only=read_only)
        yield opened


async def use_all(database: Database, *, read_only: bool) -> None:
    ready = asyncio.Barrier(SIZE)

    async def use() -> None:
        async with database.unit_of_work(read_only=read_only) as session:
            await session.execute(ONE)
            await ready.wait()

    await asyncio.gather(*(use() for _ in range(SIZE)))


async def seconds_of_each(database: Database, *, read_only: bool) -> list[float]:
    """Use each connection of a pool, one after the other, and hold it: a free one would be used again before others."""
    took = []
    async with AsyncExitStack() as held:
        for _ in range(SIZE):
            began = time.monotonic()
            session = await held.enter_async_context(database.unit_of_work(read_only=read_only))
            await session.execute(ONE)
            took.append(time.monotonic() - began)
    return took


async def seconds_of(database: Database, *, read_only: bool) -> float:
    began = time.monotonic()
    async with database.unit_of_work(read_only=read_only) as session:
        await session.execute(ONE)
    return time.monotonic() - began


@pytest.mark.parametrize("read_only", [True, False])
async def test_one_silent_connection_condemns_the_others(network: Network, database: Database, read_only: bool) -> None:
    async with over(network, database, ping_after_idle=ALWAYS, ping_timeout=PING, command_timeout=60) as opened:
        network.forget()

        took = await seconds_of_each(opened, read_only=read_only)

    assert PING <= took[0] < 3 * PING  # not 60
    assert sum(took[1:]) < 2 * PATIENCE_WITH_A_GOODBYE, took  # no time for the goodbyes of three


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_connection_that_falls_silent_is_left_with_all_others(
    network: Network, database: Database, read_only: bool
) -> None:
    """A connection that was used a moment ago is not pinged first: one statement fails, and no other does."""
    async with over(network, database, ping_after_idle=NEVER, command_timeout=PING) as opened:
        network.forget()

        with pytest.raises(DatabaseUnavailable):
            await seconds_of(opened, read_only=read_only)
        took = await seconds_of_each(opened, read_only=read_only)

    assert max(took) < PING, took
    assert opened.failures["silent"] == 1


async def test_after_a_wait_in_vain_each_connection_is_asked_before_it_is_used(
    network: Network, database: Database
) -> None:
    async with over(network, database, ping_after_idle=NEVER, ping_timeout=PING, command_timeout=60) as opened:
        network.forget()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), opened.sessions() as session:
                await session.execute(ONE)

        took = await seconds_of_each(opened, read_only=False)

    assert sum(took) < 2 * PING, took  # one of them was asked, and the others are as old


async def test_whoever_gives_up_while_a_connection_is_asked_has_found_out_that_it_is_silent(
    network: Network, database: Database
) -> None:
    async with over(network, database, ping_after_idle=ALWAYS, ping_timeout=60, command_timeout=60) as opened:
        network.forget()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), opened.sessions() as session:
                await session.execute(ONE)

        assert time.monotonic() - began < PING  # without a goodbye


async def test_requests_at_once_are_all_served_after_one_wait(network: Network, database: Database) -> None:
    async with over(network, database, ping_after_idle=ALWAYS, ping_timeout=PING) as opened:
        network.forget()

        took = await asyncio.gather(*(seconds_of(opened, read_only=True) for _ in range(3 * SIZE)))

    assert max(took) < 3 * PING


async def test_a_network_that_acknowledges_nothing_is_noticed_by_the_system(database: Database) -> None:
    async with database.engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        own = driver._transport.get_extra_info("socket")

        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_a_socket_of_this_machine_is_no_network(network: Network, database: Database, tmp_path: Path) -> None:
    url, folder = database.settings.sqlalchemy_url, str(tmp_path)
    text_ = f"postgresql://{url.username}:{url.password}@/{url.database}?host={folder}&port=5432"
    dsn = DatabaseSettings.model_validate({"url": f"{text_}&target_session_attrs=primary"}).dsn
    async with await asyncio.start_unix_server(network._accept, f"{folder}/.s.PGSQL.5432"):
        connection = await Hosts(dsn, connect_timeout=timedelta(seconds=20)).connect()

        assert await connection.fetchval("SELECT 1") == 1
        connection.terminate()


async def test_silent_hosts_share_one_time_out(database: Database) -> None:
    """Otherwise three silent hosts would use up the caller's time, and the host after them would never be reached."""
    url = database.settings.sqlalchemy_url
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hosts = f"host=127.0.0.1:{port}&host=localhost:{port}&host={url.host}:{url.port}"
        text_ = f"postgresql://{url.username}:{url.password}@/{url.database}?{hosts}&target_session_attrs=read-write"
        dsn = DatabaseSettings.model_validate({"url": text_}).dsn
        began = time.monotonic()

        connection = await Hosts(dsn, connect_timeout=timedelta(seconds=3)).connect()

    assert time.monotonic() - began < 3
    await connection.close()


async def test_all_hosts_that_say_nothing_are_given_up_together(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hosts = "&".join(f"host=127.0.0.1:{port}" for _ in range(5))
        dsn = DatabaseSettings.model_validate({"url": f"postgresql:///x?{hosts}&target_session_attrs=primary"}).dsn
        began = time.monotonic()

        with pytest.raises(ConnectionError, match="no answer in time"):
            await Hosts(dsn, connect_timeout=timedelta(seconds=1)).connect()

    assert time.monotonic() - began < 2
