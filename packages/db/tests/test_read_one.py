"""The read that every request makes, and the write that is a transaction by itself: one statement each."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from sqlalchemy import column, func, literal, select, text
from sqlalchemy.exc import DBAPIError

from app_db import Database, open_database
from app_db.models import JobQueue
from app_db.outage import DatabaseUnavailable
from app_db.settings import DatabaseSettings

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]


async def test_the_one_row_is_returned_or_none(database: Database) -> None:
    row = await database.read_one(select(literal(1)), {})

    assert row is not None
    assert row[0] == 1
    assert await database.read_one(select(literal(1)).where(literal(1) == 2), {}) is None


async def test_the_connection_is_given_back(open_with: OpenWith) -> None:
    async with open_with(read_pool_size=1, pool_timeout=timedelta(milliseconds=50)) as narrow:
        for _ in range(3):
            await narrow.read_one(select(literal(1)), {})


async def test_a_read_of_a_database_that_is_gone_is_an_outage(refusing_url: str) -> None:
    async with open_database(DatabaseSettings.model_validate({"url": refusing_url}), name="test") as database:
        with pytest.raises(DatabaseUnavailable):
            await database.read_one(select(literal(1)), {})


async def test_a_read_that_takes_too_long_is_an_outage(open_with: OpenWith) -> None:
    async with open_with(request_timeout=timedelta(milliseconds=50)) as hurried:
        with pytest.raises(DatabaseUnavailable):
            await hurried.read_one(select(func.pg_sleep(10)), {})


async def test_a_read_that_is_wrong_is_our_own_fault(database: Database) -> None:
    with pytest.raises(DBAPIError):
        await database.read_one(select(literal(1) / literal(0)), {})


async def test_one_statement_that_writes_is_committed_at_once(database: Database) -> None:
    insert = text("INSERT INTO job_queues (name) VALUES (:name) RETURNING name").columns(column("name"))

    (row,) = await database.write_all(insert, {"name": "mail"})

    assert row.name == "mail"
    async with database.read_sessions() as session:
        assert await session.get(JobQueue, "mail") is not None
