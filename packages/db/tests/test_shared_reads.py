"""Calls of one moment share a query, and none notices: its answer does not depend on the others."""

import asyncio

import pytest
from sqlalchemy import text

from app_db import Database
from app_db.shared_queries import AT_ONCE
from app_db.testing.queries import assert_queries

from .conftest import OpenWith, Until
from .shared_calls import QUERY, SLOW, call, change, one_after_the_other, quotient, until_sent


async def test_calls_of_one_moment_share_a_query(second: Database) -> None:
    with assert_queries(second, max=1) as sent:
        answers = await asyncio.gather(*(quotient(second, divisor) for divisor in (1, 2, 3, 4, 5, 6)))

    assert answers == [60, 30, 20, 15, 12, 10]
    assert second.gathered == {6: 1}
    assert len(sent) == 1


async def test_a_call_without_company_makes_its_query_itself(second: Database) -> None:
    await call(second)

    calling = asyncio.create_task(quotient(second, 1, seconds=SLOW))
    await until_sent(second, queries=2)

    assert not second._shared_reads[QUERY].calls._tasks
    others = asyncio.gather(quotient(second, 2), quotient(second, 3))
    assert [await calling, *await others] == [60, 30, 20]
    assert second.gathered == {1: 2, 2: 1}


async def test_what_comes_while_a_lone_call_is_under_way_is_sent_at_its_end(second: Database) -> None:
    await call(second)
    calling = asyncio.create_task(quotient(second, 1))
    await asyncio.sleep(0)
    later = asyncio.create_task(quotient(second, 2))

    await calling

    shared = second._shared_reads[QUERY].calls
    assert later.done() or shared._connecting or shared._sent
    assert await later == 30


async def test_a_call_that_made_its_query_itself_and_leaves_harms_no_other(second: Database) -> None:
    await call(second)
    calling = asyncio.create_task(quotient(second, 1, seconds=60))
    await until_sent(second, queries=2)
    others = [asyncio.create_task(quotient(second, divisor)) for divisor in (2, 3)]

    calling.cancel()

    async with asyncio.timeout(30):
        assert await asyncio.gather(*others) == [30, 20]


async def test_what_arrives_while_queries_are_under_way_goes_with_the_next(second: Database) -> None:
    under_way = await one_after_the_other(second, AT_ONCE, seconds=4 * SLOW)

    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(quotient(second, divisor) for divisor in (3, 4, 5)), *under_way)

    assert answers == [20, 15, 12, *(60 // divisor for divisor in range(1, AT_ONCE + 1))]
    assert second.gathered == {1: AT_ONCE, 3: 1}


async def test_an_answer_comes_from_a_query_that_began_after_its_call(second: Database) -> None:
    under_way = await one_after_the_other(second, AT_ONCE, seconds=4 * SLOW)
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


async def test_a_query_that_hangs_holds_up_the_only_later_call_for_a_moment(
    second: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app_db.shared_queries.PATIENCE", 0.5)  # so that the later call comes within it
    hanging = asyncio.create_task(quotient(second, 1, seconds=10))
    async with asyncio.timeout(45):
        while not second.gathered:  # noqa: ASYNC110  # a counter sets no event
            await asyncio.sleep(0)

    assert await quotient(second, 2) == 30  # comes at once, and nobody after it

    assert not hanging.done()
    hanging.cancel()
    await asyncio.wait([hanging])


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
    sleeping = "datname = current_database() AND state = 'active' AND wait_event = 'PgSleep'"
    asked = text(f"SELECT count(*) FROM pg_stat_activity WHERE {sleeping}")
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
