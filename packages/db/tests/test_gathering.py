"""Callers that come while a statement runs share the next, and one of them does not harm the others."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import column, text

from app_db import Database
from app_db.gathering import MOST, SLOW, Gathering
from app_db.outage import NoAnswer

LONG = timedelta(minutes=1)
DIVIDE = text("SELECT 1 / CAST(divisor AS integer) FROM unnest(CAST(:divisors AS integer[])) AS d (divisor)").columns(
    column("quotient")
)


class Statements:
    """A statement that replies with its group, when it may."""

    def __init__(self, *, limit: timedelta = LONG) -> None:
        self.groups: list[list[int]] = []
        self.may_reply = asyncio.Event()
        self.may_reply.set()
        self.error: BaseException | None = None
        self.gathering = Gathering(self.run, limit)

    async def run(self, asked: Sequence[int]) -> list[int | None]:
        self.groups.append(list(asked))
        await self.may_reply.wait()
        error, self.error = self.error, None
        if error is not None:
            raise error
        return [each if each >= 0 else None for each in asked]

    def ask(self, *numbers: int) -> list[asyncio.Task[int | None]]:
        return [asyncio.create_task(self.gathering.ask(number)) for number in numbers]

    async def hold(self, *numbers: int) -> list[asyncio.Task[int | None]]:
        """Ask, and return when the statement runs and has not replied."""
        self.may_reply.clear()
        before = len(self.groups)
        asked = self.ask(*numbers)
        while len(self.groups) == before:  # noqa: ASYNC110  # a few turns of the loop
            await asyncio.sleep(0)
        return asked


async def test_callers_of_one_moment_share_a_statement_and_later_ones_the_next() -> None:
    statements = Statements()
    first = await statements.hold(1, 2)

    later = statements.ask(3, -4, 5)
    await asyncio.sleep(0)
    statements.may_reply.set()

    assert await asyncio.gather(*first, *later) == [1, 2, 3, None, 5]
    assert statements.groups == [[1, 2], [3, -4, 5]]


async def test_a_lone_caller_waits_for_nobody() -> None:
    statements = Statements()

    assert [await statements.gathering.ask(number) for number in range(3)] == [0, 1, 2]

    assert statements.groups == [[0], [1], [2]]


async def test_a_group_has_a_size() -> None:
    statements = Statements()

    assert await asyncio.gather(*statements.ask(*range(MOST + 1))) == list(range(MOST + 1))

    assert [len(group) for group in statements.groups] == [MOST, 1]


async def test_a_cancelled_caller_harms_no_other_of_its_group() -> None:
    statements = Statements()
    one, other = await statements.hold(1, 2)

    one.cancel()
    await asyncio.wait([one])
    statements.may_reply.set()

    assert one.cancelled()
    assert await other == 2


async def test_what_a_caller_wanted_that_left_is_not_asked() -> None:
    statements = Statements()
    (first,) = await statements.hold(1)
    left, stays = statements.ask(2, 3)
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])

    statements.may_reply.set()
    await asyncio.gather(first, stays)
    (alone,) = await statements.hold(4)
    (left,) = statements.ask(5)
    await asyncio.sleep(0)
    left.cancel()
    statements.may_reply.set()
    await asyncio.wait([alone, left])

    assert statements.groups == [[1], [3], [4]]
    assert await statements.gathering.ask(6) == 6


async def test_what_may_have_had_an_effect_is_an_error_of_all_and_of_nobody_after_them() -> None:
    statements = Statements()
    callers = await statements.hold(1, 2, 3)
    later = statements.ask(4)
    callers[0].cancel()
    statements.error = NoAnswer("lost")
    statements.may_reply.set()

    results = await asyncio.gather(*callers, return_exceptions=True)

    assert [type(result) for result in results] == [asyncio.CancelledError, NoAnswer, NoAnswer]
    assert await asyncio.gather(*later) == [4]


async def test_a_statement_without_a_reply_ends_for_all_and_the_next_begins() -> None:
    statements = Statements(limit=timedelta(milliseconds=20))
    callers = await statements.hold(1, 2)

    results = await asyncio.gather(*callers, return_exceptions=True)
    statements.may_reply.set()

    assert [type(result) for result in results] == [TimeoutError, TimeoutError]
    assert await statements.gathering.ask(3) == 3


@pytest.mark.parametrize("came", ["before", "after"])
async def test_a_statement_that_hangs_keeps_later_callers_for_a_moment_only(came: str) -> None:
    runs, hangs = asyncio.Event(), asyncio.Event()

    async def run(asked: Sequence[int]) -> list[int | None]:
        if 1 in asked:
            runs.set()
            await hangs.wait()
        return list(asked)

    gathering = Gathering(run, 10 * SLOW)
    first = asyncio.create_task(gathering.ask(1))
    await runs.wait()
    await asyncio.sleep(0 if came == "before" else 2 * SLOW.total_seconds())

    assert await gathering.ask(2) == 2
    assert not first.done()
    hangs.set()
    assert await first == 1


async def test_callers_are_cancelled_with_the_statement_when_the_loop_ends() -> None:
    before = asyncio.all_tasks()
    statements = Statements()
    callers = await statements.hold(1, 2)
    (statement,) = asyncio.all_tasks() - {*before, *callers}

    statement.cancel()
    await asyncio.wait(callers)

    assert all(caller.cancelled() for caller in callers)


async def test_a_refused_statement_is_split(database: Database) -> None:
    """Postgres has kept nothing of it, and does not say which row it refuses: each caller asks alone."""

    async def run(divisors: Sequence[int]) -> list[int | None]:
        return [row.quotient for row in await database.write_all(DIVIDE, {"divisors": list(divisors)})]

    gathering = Gathering(run, LONG)

    assert await asyncio.gather(*map(gathering.ask, [1, 0])) == [None, None]
    assert await gathering.ask(1) == 1


async def test_a_statement_whose_connection_was_lost_is_not_split(database: Database) -> None:
    """Its rows may have been written: asked again, they would look as if another had them."""
    ends_itself = text("SELECT pg_terminate_backend(pg_backend_pid())").columns(column("ended"))

    async def run(asked: Sequence[int]) -> list[int | None]:
        return [row.ended for row in await database.write_all(ends_itself, {})]

    with pytest.raises(Exception, match=r"terminating connection|closed"):
        await Gathering(run, LONG).ask(1)
