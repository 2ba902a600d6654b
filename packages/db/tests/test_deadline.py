"""One deadline over all database work of a request, and the waits that do not count."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text

from app_db import Database
from app_db.deadline import one_deadline
from app_db.outage import DatabaseUnavailable

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]
type Piece = Callable[[Database, float], Awaitable[None]]

LIMIT = timedelta(seconds=1)
MOST_OF_IT = 0.6


async def read(database: Database, seconds: float) -> None:
    """Read with a statement that takes `seconds`."""
    async with database.unit_of_work(read_only=True) as session:
        await session.execute(select(func.pg_sleep(seconds)))


async def write(database: Database, seconds: float) -> None:
    """Write with a statement that takes `seconds`."""
    async with database.unit_of_work() as session:
        await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})


@pytest.mark.parametrize(("first", "second"), [(read, write), (write, read)], ids=["read-write", "write-read"])
async def test_slow_database_work_shares_one_deadline(
    open_with: OpenWith,
    first: Piece,
    second: Piece,
) -> None:
    async with open_with(request_timeout=LIMIT) as hurried:
        with one_deadline():
            await first(hurried, MOST_OF_IT)
            with pytest.raises(DatabaseUnavailable):
                await second(hurried, MOST_OF_IT)


async def test_after_the_block_database_work_has_the_whole_time_again(open_with: OpenWith) -> None:
    async with open_with(request_timeout=LIMIT) as hurried:
        with one_deadline():
            await read(hurried, MOST_OF_IT)

        await read(hurried, MOST_OF_IT)


async def test_time_between_database_work_is_not_counted(open_with: OpenWith) -> None:
    async with open_with(request_timeout=LIMIT) as hurried:
        with one_deadline():
            await read(hurried, 0)
            await asyncio.sleep(LIMIT.total_seconds())

            await read(hurried, 0)


async def test_overlapping_database_work_counts_once(open_with: OpenWith) -> None:
    async with open_with(request_timeout=LIMIT) as hurried:
        with one_deadline():
            async with hurried.unit_of_work():
                await asyncio.gather(read(hurried, MOST_OF_IT), read(hurried, MOST_OF_IT))

            await read(hurried, 0)
