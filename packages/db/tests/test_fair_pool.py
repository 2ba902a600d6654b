"""A connection that is given back goes to the caller that has waited longest."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from app_db import Database, open_database
from app_db.pool import pool_of
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
