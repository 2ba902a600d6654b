"""Calls that share a query: the query, and who waits for it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, Double, Integer, Text, bindparam, column, func, literal_column, select, text

from app_db import Database

CALLS = (
    func.unnest(bindparam("divisor", type_=ARRAY(Integer)), bindparam("seconds", type_=ARRAY(Double)))
    .table_valued(column("divisor", Integer), column("seconds", Double), with_ordinality="number")
    .render_derived(name="calls")
)
QUEUES = select(func.count().label("queues")).select_from(text("job_queues")).scalar_subquery()
QUERY = select(
    literal_column("60", Integer) // CALLS.c.divisor,
    QUEUES,
    func.pg_backend_pid(),
    func.pg_sleep(CALLS.c.seconds).cast(Text),
    CALLS.c.number,
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


async def change(database: Database, statement: str) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text(statement))
