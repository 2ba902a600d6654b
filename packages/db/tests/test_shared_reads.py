"""Calls of one moment share a query, and none notices: neither its answer nor its failure depends on the others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import ARRAY, Double, Integer, Text, bindparam, column, func, literal_column, select, table, text, true
from sqlalchemy.exc import DBAPIError

from app_db import Database, open_database
from app_db.outage import DatabaseUnavailable
from app_db.settings import DatabaseSettings
from app_db.shared_queries import AT_ONCE
from app_db.testing.queries import assert_queries

from .conftest import EndBackend, Until

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]

_CALLS = (
    func.unnest(bindparam("divisor", type_=ARRAY(Integer)), bindparam("seconds", type_=ARRAY(Double)))
    .table_valued(column("divisor", Integer), column("seconds", Double), with_ordinality="number")
    .render_derived(name="calls")
)
QUEUES = select(func.count().label("queues")).select_from(text("job_queues")).scalar_subquery()
QUERY = select(
    literal_column("60", Integer) // _CALLS.c.divisor,
    QUEUES,
    func.pg_backend_pid(),
    func.pg_sleep(_CALLS.c.seconds).cast(Text),
    _CALLS.c.number,
)
"""A query that divides, counts what others commit, and takes some time."""
SLOW = 0.3


async def call(database: Database, divisor: int = 1, *, seconds: float = 0) -> Sequence[Any] | None:
    return await database.read_gathered(QUERY, {"divisor": divisor, "seconds": seconds})


async def quotient(database: Database, divisor: int, *, seconds: float = 0) -> int | None:
    row = await call(database, divisor, seconds=seconds)
    return None if row is None else row[0]


async def one_after_the_other(database: Database, count: int, *, seconds: float) -> list[asyncio.Task[int | None]]:
    """Start calls, each with a query of its own that is under way."""
    tasks = []
    for divisor in range(1, count + 1):
        tasks.append(asyncio.create_task(quotient(database, divisor, seconds=seconds)))
        await until_sent(database, queries=divisor)
    return tasks


async def until_sent(database: Database, *, queries: int) -> None:
    """Wait until so many queries have been sent, and the server has had time to begin them."""
    async with asyncio.timeout(45):
        while sum(database.gathered.values()) < queries:  # noqa: ASYNC110  # a counter sets no event
            await asyncio.sleep(0)
    await asyncio.sleep(0.05)


@pytest.fixture
async def second(open_with: OpenWith) -> AsyncIterator[Database]:
    """The test's database with a count of its own; its connection is open."""
    async with open_with() as second:
        await call(second)
        second.gathered.clear()
        yield second


async def test_calls_of_one_moment_share_a_query(second: Database) -> None:
    with assert_queries(second, max=1) as sent:
        answers = await asyncio.gather(*(quotient(second, divisor) for divisor in (1, 2, 3, 4, 5, 6)))

    assert answers == [60, 30, 20, 15, 12, 10]
    assert second.gathered == {6: 1}
    assert len(sent) == 1


async def test_what_arrives_while_queries_are_under_way_goes_with_the_next(second: Database) -> None:
    under_way = await one_after_the_other(second, AT_ONCE, seconds=SLOW)

    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(quotient(second, divisor) for divisor in (3, 4, 5)), *under_way)

    assert answers == [20, 15, 12, *(60 // divisor for divisor in range(1, AT_ONCE + 1))]
    assert second.gathered == {1: AT_ONCE, 3: 1}


async def test_an_answer_comes_from_a_query_that_began_after_its_call(second: Database) -> None:
    under_way = await one_after_the_other(second, AT_ONCE, seconds=SLOW)
    await change(second, "INSERT INTO job_queues (name) VALUES ('new')")

    async with asyncio.timeout(30):
        row = await call(second)

    assert row is not None
    assert row[1] == 1
    assert second.gathered == {1: AT_ONCE + 1}
    await asyncio.gather(*under_way)


async def test_a_query_that_hangs_holds_up_no_later_call(second: Database) -> None:
    (hanging,) = await one_after_the_other(second, 1, seconds=2)

    assert await quotient(second, 2) == 30
    assert not hanging.done()
    hanging.cancel()


async def test_a_query_that_hangs_holds_up_the_only_later_call_for_a_moment(second: Database) -> None:
    hanging = asyncio.create_task(quotient(second, 1, seconds=2))
    async with asyncio.timeout(45):
        while not second.gathered:  # noqa: ASYNC110  # a counter sets no event
            await asyncio.sleep(0)

    assert await quotient(second, 2) == 30  # comes at once, and nobody after it

    assert not hanging.done()
    hanging.cancel()
    await asyncio.wait([hanging])


async def test_one_row_that_fails_fails_one_call(second: Database) -> None:
    answers = await asyncio.gather(*(quotient(second, divisor) for divisor in (1, 0, 2)), return_exceptions=True)

    assert [answers[0], answers[2]] == [60, 30]
    assert isinstance(answers[1], DBAPIError)
    assert "division by zero" in str(answers[1])


async def test_the_cancellation_of_one_call_harms_no_other(second: Database) -> None:
    calls = [asyncio.create_task(quotient(second, divisor, seconds=SLOW)) for divisor in (1, 2, 3)]
    await until_sent(second, queries=1)

    calls[1].cancel()

    async with asyncio.timeout(30):
        assert [await calls[0], await calls[2]] == [60, 20]
    assert calls[1].cancelled()
    assert second.gathered == {3: 1}


async def test_a_query_ends_when_all_its_calls_have_gone(database: Database, until: Until, open_with: OpenWith) -> None:
    async with open_with(read_pool_size=1) as narrow:
        calls = [asyncio.create_task(call(narrow, seconds=60)) for _ in range(2)]
        await until_sent(narrow, queries=1)

        for task in calls:
            task.cancel()

        assert await quotient(narrow, 2) == 30
        await until(lambda: nobody_sleeps(database))


async def nobody_sleeps(database: Database) -> bool:
    asked = text("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'")
    async with database.engine.connect() as connection:
        return not await connection.scalar(asked)


async def test_calls_that_leave_before_there_is_a_connection_take_none(open_with: OpenWith) -> None:
    async with open_with(read_pool_size=1) as narrow:
        async with narrow.read_engine.connect():
            calls = [asyncio.create_task(call(narrow)) for _ in range(2)]
            await asyncio.sleep(0.1)
            for task in calls:
                task.cancel()
            await asyncio.wait(calls)

        assert await quotient(narrow, 2) == 30
        assert narrow.gathered == {1: 1}


async def test_calls_that_wait_for_a_connection_go_together(open_with: OpenWith) -> None:
    async with open_with(read_pool_size=1) as narrow:
        async with narrow.read_engine.connect():
            calls = [asyncio.create_task(quotient(narrow, 1))]
            await asyncio.sleep(0.05)
            calls += [asyncio.create_task(quotient(narrow, divisor)) for divisor in (2, 3)]
            await asyncio.sleep(0.05)

        assert await asyncio.gather(*calls) == [60, 30, 20]
        assert narrow.gathered == {3: 1}


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
    query = select(things.c.size, _CALLS.c.number).select_from(_CALLS.join(things, true()))
    await change(second, "CREATE TABLE things AS SELECT 7 AS size")
    try:
        before = await second.read_gathered(query, {"divisor": 1, "seconds": 0})
        await change(second, "ALTER TABLE things ALTER size TYPE text USING size::text")

        after = await second.read_gathered(query, {"divisor": 1, "seconds": 0})
    finally:
        await change(second, "DROP TABLE things")

    assert [before and before[0], after and after[0]] == [7, "7"]


async def change(database: Database, statement: str) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text(statement))


async def test_a_connection_that_is_lost_costs_no_call_that_shared_it(
    second: Database, end_backend: EndBackend
) -> None:
    row = await call(second)
    assert row is not None
    calls = [asyncio.create_task(quotient(second, divisor, seconds=SLOW)) for divisor in (1, 2)]
    await until_sent(second, queries=2)

    await end_backend(row[2])

    assert await asyncio.gather(*calls) == [60, 30]


async def test_a_query_that_nobody_waits_for_ends_before_the_database_closes(open_with: OpenWith) -> None:
    async with open_with() as second:
        calling = asyncio.create_task(call(second, seconds=60))
        await until_sent(second, queries=1)
        calling.cancel()
        with suppress(asyncio.CancelledError):
            await calling

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_query_that_ends_with_its_loop_takes_its_calls_along(second: Database) -> None:
    (calling,) = await one_after_the_other(second, 1, seconds=60)
    (query,) = second._shared_reads[QUERY].calls._tasks

    query.cancel()

    with pytest.raises(asyncio.CancelledError):
        await calling
