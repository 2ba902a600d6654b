"""Processes whose role may open fewer connections than their pools take; and pools that give back what idles."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import insert, text

from app_db import Database, open_database
from app_db.engine import _is_at_limit
from app_db.models import JobQueue
from app_db.outage import DatabaseUnavailable
from app_db.pool import CountingPool, pool_of
from app_db.settings import DatabaseSettings
from app_db.types import new_id

type OpenAtLimit = Callable[..., AbstractAsyncContextManager[Database]]
type Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]

LIMIT = 6
SOON = timedelta(milliseconds=200)


@pytest_asyncio.fixture(loop_scope="session")
async def at_limit(database: Database, database_settings: DatabaseSettings) -> AsyncIterator[OpenAtLimit]:
    """Open the test's database as a role that may have `LIMIT` connections, with some settings changed."""
    name = f"r{new_id().hex}"

    async def run_as_owner(statement: str) -> None:
        async with database.autocommit_sessions() as session:
            await session.execute(text(statement))

    @asynccontextmanager
    async def open_(**changes: Any) -> AsyncIterator[Database]:  # Any: fields of DatabaseSettings
        url = database_settings.sqlalchemy_url.set(username=name, password="right")
        given = {"url": url.render_as_string(hide_password=False), **changes}
        async with open_database(DatabaseSettings.model_validate(given), name=name) as opened:
            yield opened

    await run_as_owner(f"CREATE ROLE {name} LOGIN PASSWORD 'right' CONNECTION LIMIT {LIMIT}")
    await run_as_owner(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {name}")
    yield open_
    await run_as_owner(f"DROP OWNED BY {name}")
    await run_as_owner(f"DROP ROLE {name}")


async def read(database: Database, *, seconds: float = 0.01) -> None:
    async with database.unit_of_work(read_only=True) as session:
        await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})


async def write(database: Database) -> None:
    async with database.unit_of_work() as session:
        await session.execute(insert(JobQueue).values(name=new_id().hex))


async def served(works: Sequence[Awaitable[None]]) -> Counter[bool]:
    results = await asyncio.gather(*works, return_exceptions=True)
    for error in results:
        if error is not None and not isinstance(error, DatabaseUnavailable):
            raise error
    return Counter(error is None for error in results)


@asynccontextmanager
async def reading(database: Database, number: int) -> AsyncIterator[AsyncExitStack]:
    """Keep so many reading connections in use until the end of the block; `pop_all` of the stack ends it early."""
    async with AsyncExitStack() as stack:
        for _ in range(number):
            _connection = await stack.enter_async_context(database.read_engine.connect())
        yield stack


def reads_of(database: Database) -> CountingPool:
    return pool_of(database.read_engine)


async def test_writes_and_reads_of_two_processes_share_what_the_role_may_have(at_limit: OpenAtLimit) -> None:
    """Before, reads took all of it for good, and no write was ever served."""
    async with at_limit(pool_size=3, read_pool_size=4) as first, at_limit(pool_size=3, read_pool_size=4) as second:
        processes = (first, second)
        for process in processes:
            await read(process)
            await write(process)

        works = [work(process) for process in processes for work in (read, write) for _ in range(20)]
        assert await served(works) == {True: 80}


async def test_a_write_takes_the_place_of_an_idle_read(at_limit: OpenAtLimit) -> None:
    async with at_limit() as process:
        async with reading(process, LIMIT):
            pass

        await write(process)

        assert reads_of(process).opened == LIMIT - 1


async def test_a_write_takes_the_place_of_a_read_that_ends(at_limit: OpenAtLimit, until: Until) -> None:
    async with at_limit() as process, reading(process, LIMIT - 1):
        async with reading(process, 1):
            writing = asyncio.create_task(write(process))

            async def waits() -> bool:
                return pool_of(process.engine).waiting == 1

            await until(waits)
        await writing

        assert reads_of(process).opened == LIMIT - 1


async def test_no_read_asks_for_the_place_that_a_write_took(at_limit: OpenAtLimit) -> None:
    async with at_limit() as process:
        async with reading(process, LIMIT):
            pass
        await write(process)
        refused = process.failures["refused"]

        assert await served([read(process) for _ in range(10)]) == {True: 10}
        assert process.failures["refused"] == refused


async def test_reads_keep_a_connection_beside_writes(at_limit: OpenAtLimit) -> None:
    async with at_limit() as other, reading(other, LIMIT - 2), at_limit() as process:
        async with reading(process, 2):
            pass

        assert await served([write(process) for _ in range(5)]) == {True: 5}
        assert reads_of(process).opened == 1


async def test_reads_take_no_place_of_a_write_but_their_first(at_limit: OpenAtLimit) -> None:
    async with at_limit() as other, reading(other, LIMIT - 3), at_limit() as process:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                _connection = await stack.enter_async_context(process.engine.connect())

        assert await served([read(process) for _ in range(5)]) == {True: 5}
        assert (reads_of(process).opened, pool_of(process.engine).opened) == (1, 2)


async def test_at_the_limit_callers_wait_for_a_connection_of_their_pool(at_limit: OpenAtLimit) -> None:
    async with at_limit() as other, reading(other, LIMIT - 1), at_limit() as process:
        assert await served([read(process) for _ in range(8)]) == {True: 8}


async def test_who_waits_in_vain_at_the_limit_is_told_why(at_limit: OpenAtLimit) -> None:
    async with (
        at_limit() as other,
        reading(other, LIMIT - 1),
        at_limit(pool_timeout=SOON) as process,
        process.unit_of_work() as holder,
    ):
        await holder.execute(text("SELECT 1"))

        with pytest.raises(DatabaseUnavailable) as outage:
            await write(process)

        assert "too many connections" in outage.value.reason()


async def test_a_pool_gives_back_what_idles(at_limit: OpenAtLimit, until: Until) -> None:
    async with at_limit(close_after_idle=SOON) as process:
        async with reading(process, 4):
            pass

        async def is_back() -> bool:
            return reads_of(process).opened == 1

        await until(is_back)
        await asyncio.sleep(2 * SOON.total_seconds())
        assert reads_of(process).opened == 1


async def test_at_the_limit_a_pool_gives_back_what_idles_sooner(at_limit: OpenAtLimit, until: Until) -> None:
    async with at_limit(close_after_idle=timedelta(minutes=1) / 5) as process, at_limit() as newcomer:
        async with reading(process, LIMIT):
            pass

        async def is_served() -> bool:
            return await served([read(newcomer)]) == {True: 1}

        assert not await is_served()
        async with asyncio.timeout(6):
            await until(is_served)


async def test_a_look_at_the_limit_makes_no_connection_younger(database: Database) -> None:
    """Else the first request after the network dropped a connection would use it without a ping, and wait in vain."""

    async def idle_since() -> float:
        async with database.unit_of_work(read_only=True) as session:
            connection = (await session.connection()).sync_connection
            assert connection
            return float(connection.info["idle_since"])

    await _is_at_limit(database)  # which may open the connection
    await idle_since()
    began = time.monotonic()

    await _is_at_limit(database)

    assert await idle_since() < began


async def test_a_process_that_cannot_ask_for_the_limit_gives_back_what_idles(
    at_limit: OpenAtLimit, until: Until
) -> None:
    writes_only = at_limit(close_after_idle=SOON, read_pool_size=1, pool_timeout=SOON / 4)
    async with writes_only as process, reading(process, 1):
        async with process.engine.connect(), process.engine.connect():
            pass

        async def is_back() -> bool:
            return pool_of(process.engine).opened == 1

        await until(is_back)


async def test_a_pool_keeps_what_idles_if_it_is_told_to(at_limit: OpenAtLimit) -> None:
    async with at_limit(close_after_idle=timedelta(0)) as process:
        async with reading(process, 3):
            pass
        await asyncio.sleep(0.1)

        assert reads_of(process).opened == 3


async def test_a_process_without_a_connection_is_refused_at_once(at_limit: OpenAtLimit) -> None:
    async with at_limit(read_pool_size=LIMIT) as others, reading(others, LIMIT), at_limit() as database:
        with pytest.raises(DatabaseUnavailable):
            await read(database)

        assert reads_of(database).waits == 0
