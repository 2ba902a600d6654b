"""A connection that is given back goes to the caller that has waited longest."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.util import greenlet_spawn

from app_db import Database, open_database
from app_db.pool import _Waiter, pool_of
from app_db.settings import DatabaseSettings


@pytest_asyncio.fixture(loop_scope="session")
async def narrow(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """A Database whose read engine has one connection."""
    settings = database_settings.model_copy(update={"read_pool_size": 1})
    async with open_database(settings, name="narrow") as database:
        yield database


async def wait_for_waiters(database: Database, count: int) -> None:
    async with asyncio.timeout(10):
        while pool_of(database.read_engine).waiting < count:  # noqa: ASYNC110  # nobody tells us
            await asyncio.sleep(0.001)


async def test_who_has_waited_longest_is_served_first(narrow: Database) -> None:
    """asyncpg's issue 1247: whoever gives a connection back and asks for the next took it from all that waited."""
    served: list[int] = []

    async def use(number: int) -> None:
        async with narrow.read_engine.connect():
            served.append(number)

    async with narrow.read_engine.connect():
        tasks = []
        for number in range(4):
            tasks.append(asyncio.create_task(use(number)))
            await wait_for_waiters(narrow, number + 1)
    await use(4)
    await asyncio.gather(*tasks)

    assert served == [0, 1, 2, 3, 4]


async def test_a_connection_that_comes_too_late_goes_to_the_next(narrow: Database) -> None:
    served: list[int] = []

    async def use(number: int) -> None:
        async with narrow.read_engine.connect():
            served.append(number)

    held = await narrow.read_engine.connect()
    tasks = [asyncio.create_task(use(number)) for number in range(2)]
    await wait_for_waiters(narrow, 2)
    await held.close()
    tasks[0].cancel()  # it has its connection, and has not run since
    await asyncio.gather(*tasks, return_exceptions=True)

    pool = pool_of(narrow.read_engine)
    assert served == [1]
    assert (pool.checkedin(), pool.checkedout(), pool.waiting) == (1, 0, 0)


async def test_a_caller_that_has_gone_is_passed_over(narrow: Database) -> None:
    pool = pool_of(narrow.read_engine)
    gone = _Waiter()
    gone.cancel()

    async with narrow.read_engine.connect():
        pool._waiters.append(gone)

    assert (pool.checkedin(), len(pool._waiters)) == (1, 0)


async def test_a_place_that_nobody_waits_for_any_more_is_no_place(narrow: Database) -> None:
    pool = pool_of(narrow.read_engine)

    pool.take_place()

    assert (pool.checkedin(), pool.opened) == (0, 0)


async def test_a_pool_without_an_idle_connection_leaves_no_place(narrow: Database) -> None:
    pool = pool_of(narrow.read_engine)
    assert not await greenlet_spawn(pool.leave_place)

    async with narrow.read_engine.connect() as connection:
        await connection.invalidate()  # given back without a connection

    assert pool.checkedin() == 1
    assert not await greenlet_spawn(pool.leave_place)
    assert pool.checkedin() == 0


async def test_a_pool_by_itself_that_was_refused_tries_again_if_it_has_no_connection(narrow: Database) -> None:
    pool = pool_of(narrow.read_engine)
    pool.neighbour, pool._refused_at = None, time.monotonic()

    async with narrow.read_engine.connect():
        assert pool.opened == 1


async def use(database: Database) -> None:
    async with database.engine.connect():
        pass


async def test_a_full_pool_takes_no_place_of_its_neighbour(database_settings: DatabaseSettings) -> None:
    settings = database_settings.model_copy(update={"pool_size": 1, "pool_timeout": timedelta(milliseconds=50)})
    async with open_database(settings, name="full") as database:
        writes, reads = pool_of(database.engine), pool_of(database.read_engine)
        async with database.read_engine.connect(), database.read_engine.connect():
            pass
        async with database.engine.connect():
            writes._refused_at = time.monotonic()
            with pytest.raises(PoolTimeoutError):
                await use(database)

        assert reads.checkedin() == 2
