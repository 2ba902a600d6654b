"""Calls of one moment share a query, and none notices: its failure does not depend on the others."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import column, select, table, true
from sqlalchemy.exc import DBAPIError

from app_db import Database, open_database
from app_db.outage import DatabaseUnavailable
from app_db.settings import DatabaseSettings

from .conftest import EndBackend, OpenWith
from .shared_calls import CALLS, QUERY, SLOW, call, change, one_after_the_other, quotient, until_sent


async def test_one_row_that_fails_fails_one_call(second: Database) -> None:
    answers = await asyncio.gather(*(quotient(second, divisor) for divisor in (1, 0, 2)), return_exceptions=True)

    assert [answers[0], answers[2]] == [60, 30]
    assert isinstance(answers[1], DBAPIError)
    assert "division by zero" in str(answers[1])


async def test_calls_that_get_no_connection_are_refused(open_with: OpenWith) -> None:
    async with (
        open_with(read_pool_size=1, pool_timeout=timedelta(milliseconds=50)) as narrow,
        narrow.read_engine.connect(),
    ):
        answers = await asyncio.gather(*(call(narrow) for _ in range(3)), return_exceptions=True)

        assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 3


async def test_calls_of_a_database_that_is_gone_fail_together(refusing_url: str) -> None:
    async with open_database(DatabaseSettings.model_validate({"url": refusing_url}), name="test") as gone:
        answers = await asyncio.gather(*(call(gone) for _ in range(3)), return_exceptions=True)

        assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 3
        assert gone.failures == {"unreachable": 1}


async def test_calls_that_take_too_long_fail_by_their_own_deadlines(open_with: OpenWith) -> None:
    async with open_with(request_timeout=timedelta(milliseconds=200)) as hurried:
        answers = await asyncio.gather(*(call(hurried, seconds=60) for _ in range(3)), return_exceptions=True)

        assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 3
        assert await quotient(hurried, 2) == 30


async def test_a_connection_that_falls_silent_is_counted_and_not_used_again(open_with: OpenWith) -> None:
    limits = {"command_timeout": timedelta(milliseconds=200), "statement_timeout": timedelta(0)}
    async with open_with(read_pool_size=1, **limits) as hurried:
        before = await call(hurried)

        with pytest.raises(DatabaseUnavailable):
            await call(hurried, seconds=60)

        after = await call(hurried)
        assert hurried.failures == {"silent": 1}
        assert before is not None
        assert after is not None
        assert before[2] != after[2]


async def test_a_schema_that_changes_is_noticed_by_no_call(second: Database) -> None:
    things = table("things", column("size"))
    query = select(things.c.size, CALLS.c.number).select_from(CALLS.join(things, true()))
    await change(second, "CREATE TABLE things AS SELECT 7 AS size")
    try:
        before = await second.read_gathered(query, {"divisor": 1, "seconds": 0})
        await change(second, "ALTER TABLE things ALTER size TYPE text USING size::text")

        after = await second.read_gathered(query, {"divisor": 1, "seconds": 0})
    finally:
        await change(second, "DROP TABLE things")

    assert [before and before[0], after and after[0]] == [7, "7"]


async def test_a_connection_that_is_lost_costs_no_call_that_shared_it(
    second: Database, end_backend: EndBackend
) -> None:
    rows = await asyncio.gather(call(second), call(second))
    assert rows[0] is not None
    calls = [asyncio.create_task(quotient(second, divisor, seconds=SLOW)) for divisor in (1, 2)]
    await until_sent(second, queries=2)

    await end_backend(rows[0][2])

    assert await asyncio.gather(*calls) == [60, 30]
    assert second.gathered == {2: 2}


async def test_a_query_that_nobody_waits_for_ends_before_the_database_closes(open_with: OpenWith) -> None:
    before = asyncio.all_tasks()
    async with open_with() as second:
        calling = asyncio.create_task(call(second, seconds=60))
        await until_sent(second, queries=1)
        calling.cancel()
        with suppress(asyncio.CancelledError):
            await calling

    assert asyncio.all_tasks() == before


async def test_a_query_that_ends_with_its_loop_takes_its_calls_along(second: Database) -> None:
    (calling,) = await one_after_the_other(second, 1, seconds=60)
    (query,) = second._shared_reads[QUERY].calls._tasks

    query.cancel()

    with pytest.raises(asyncio.CancelledError):
        await calling
