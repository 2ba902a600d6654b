"""A schema that changes under live connections is no fault of a statement.

asyncpg 0.32 raises InvalidCachedStatementError (0A000) and OutdatedSchemaCacheError, PostgreSQL answers "cache lookup
failed" (XX000) for a type that has gone, and 26000 for a prepared statement that a pooler has left on another server
connection (asyncpg, FAQ: "Why am I getting prepared statement errors?").
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import TextualSelect, column, text
from sqlalchemy.exc import DBAPIError

from app_db import Database, Session
from app_db.outage import DatabaseUnavailable, is_connection_lost

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]
type Ask = Callable[[Database, str], Awaitable[Any]]

TO_TEXT = "ALTER TABLE things ALTER size TYPE text USING size::text"
SIZE = "SELECT size FROM things"
ADD = "INSERT INTO things (size) VALUES (7) RETURNING size"


def rows(statement: str) -> TextualSelect:
    return text(statement).columns(column("size"))


async def by_write_all(database: Database, statement: str) -> Any:
    (row,) = await database.write_all(rows(statement), {})
    return row.size


async def by_reading(database: Database, statement: str) -> Any:
    async with database.unit_of_work(read_only=True) as session:
        return await session.scalar(text(statement))


async def by_writing(database: Database, statement: str) -> Any:
    async with database.unit_of_work() as session:
        return await session.scalar(text(statement))


async def by_autocommit(database: Database, statement: str) -> Any:
    async with database.autocommit_sessions() as session:
        return await session.scalar(text(statement))


@pytest_asyncio.fixture(loop_scope="session")
async def one(database: Database, open_with: OpenWith) -> AsyncIterator[Database]:
    """The test's database through one connection of each engine, with an extra table."""
    async with _things(database), open_with(pool_size=1, read_pool_size=1) as second:
        yield second


@asynccontextmanager
async def _things(database: Database) -> AsyncIterator[None]:
    await change(database, "CREATE TABLE things (size integer)")
    await change(database, "INSERT INTO things VALUES (7)")
    try:
        yield
    finally:
        await change(database, "DROP TABLE IF EXISTS things, others; DROP TYPE IF EXISTS mood, pair")


async def change(database: Database, statements: str) -> None:
    """Change the schema as a migration does, on its own connection."""
    async with database.engine.begin() as connection:
        for statement in statements.split("; "):
            await connection.execute(text(statement))


@pytest.mark.parametrize("ask", [by_write_all, by_reading, by_writing, by_autocommit])
async def test_a_statement_that_was_prepared_before_a_change_is_sent_again(
    database: Database, one: Database, ask: Ask
) -> None:
    assert await ask(one, SIZE) == 7
    await change(database, TO_TEXT)

    assert await ask(one, SIZE) == "7"


async def test_each_shape_of_query_outlives_the_change(database: Database, one: Database) -> None:
    shapes = [f"SELECT size AS shape_{number} FROM things" for number in range(5)]
    for shape in shapes:
        await by_writing(one, shape)
    await change(database, TO_TEXT)

    assert [await by_writing(one, shape) for shape in shapes] == ["7"] * 5


@pytest.mark.parametrize("ask", [by_write_all, by_writing, by_autocommit])
async def test_what_is_sent_again_is_done_once(database: Database, one: Database, ask: Ask) -> None:
    await ask(one, ADD)
    await change(database, TO_TEXT)

    assert await ask(one, ADD) == "7"
    assert await by_reading(one, "SELECT count(*) FROM things") == 3


async def test_a_schema_that_changes_in_a_transaction_is_an_outage(database: Database, one: Database) -> None:
    async def write(session: Session) -> None:
        await session.execute(text("SELECT 1"))
        await session.scalar(text(SIZE))

    async with one.unit_of_work() as session:
        await write(session)
    await change(database, TO_TEXT)

    with pytest.raises(DatabaseUnavailable) as outage:
        async with one.unit_of_work() as session:
            await write(session)

    assert outage.value.__cause__ is not None
    assert is_connection_lost(outage.value.__cause__)  # so that a job is given back
    async with one.unit_of_work() as session:
        await write(session)


async def test_a_statement_that_a_pooler_has_forgotten_is_prepared_again(one: Database) -> None:
    await by_writing(one, SIZE)
    async with one.engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute("DEALLOCATE ALL")

    assert await by_writing(one, SIZE) == 7


async def test_a_type_that_was_recreated_is_looked_up_again(database: Database, one: Database) -> None:
    await change(database, "CREATE TYPE mood AS ENUM ('sad')")
    mood = "SELECT CAST('sad' AS mood) FROM things"
    await by_writing(one, mood)
    await change(database, "DROP TYPE mood; CREATE TYPE mood AS ENUM ('sad', 'glad')")

    assert await by_writing(one, mood) == "sad"


async def test_a_type_of_a_parameter_that_was_recreated_is_looked_up_again(database: Database, one: Database) -> None:
    async def ask() -> Any:
        async with one.unit_of_work() as session:
            return await session.scalar(text("SELECT CAST(:mood AS mood)"), {"mood": "sad"})

    await change(database, "CREATE TYPE mood AS ENUM ('sad')")
    await ask()
    await change(database, "DROP TYPE mood; CREATE TYPE mood AS ENUM ('sad', 'glad')")

    assert await ask() == "sad"


async def test_a_table_that_was_swapped_is_the_new_one(database: Database, one: Database) -> None:
    await by_writing(one, SIZE)
    await change(database, "CREATE TABLE others (size text)")
    await change(database, "INSERT INTO others VALUES ('8')")
    await change(database, "DROP TABLE things; ALTER TABLE others RENAME TO things")

    assert await by_writing(one, SIZE) == "8"


async def test_a_parameter_is_sent_as_what_its_column_is_now(database: Database, one: Database) -> None:
    """A prepared statement keeps the types of its parameters, even if its columns change theirs."""

    async def count(size: int) -> Any:
        async with one.unit_of_work() as session:
            return await session.scalar(text("SELECT count(*) FROM things WHERE size = :size"), {"size": size})

    await count(7)
    await change(database, "ALTER TABLE things ALTER size TYPE bigint")

    assert await count(2**40) == 0


async def test_a_parameter_whose_column_has_another_type_is_prepared_again(database: Database, one: Database) -> None:
    async def add() -> None:
        async with one.unit_of_work() as session:
            await session.execute(text("INSERT INTO things (size) VALUES (:size)"), {"size": None})

    await add()
    await change(database, TO_TEXT)

    await add()


async def test_a_row_that_cannot_be_read_any_more_is_read_again(database: Database, one: Database) -> None:
    await change(database, "CREATE TYPE pair AS (a integer)")
    pair = "SELECT CAST(ROW(1) AS pair)"
    await by_reading(one, pair)
    await change(database, "ALTER TYPE pair ADD ATTRIBUTE b text")

    assert await by_reading(one, "SELECT CAST(ROW(1, 'x') AS pair)") == (1, "x")


async def test_what_was_done_before_its_answer_could_not_be_read_is_not_done_again(
    database: Database, one: Database
) -> None:
    await change(database, "CREATE TYPE pair AS (a integer)")
    await by_autocommit(one, "INSERT INTO things VALUES (7) RETURNING CAST(ROW(1) AS pair)")
    await change(database, "ALTER TYPE pair ADD ATTRIBUTE b text")

    with pytest.raises(DBAPIError) as error:
        await by_autocommit(one, "INSERT INTO things VALUES (8) RETURNING CAST(ROW(1, 'x') AS pair)")

    assert is_connection_lost(error.value)
    assert await by_reading(one, "SELECT count(*) FROM things WHERE size = 8") == 1


async def test_an_argument_that_never_fitted_is_the_statements_fault(one: Database) -> None:
    async def ask() -> None:
        async with one.unit_of_work() as session:
            await session.execute(text("SELECT 1"))
            await session.execute(text("SELECT CAST(:size AS integer)"), {"size": 2**40})

    for _ in range(2):
        with pytest.raises(DBAPIError, match="invalid input for query argument"):
            await ask()


async def test_a_column_that_has_gone_is_the_statements_fault(database: Database, one: Database) -> None:
    await by_writing(one, SIZE)
    await change(database, "ALTER TABLE things RENAME size TO length")

    with pytest.raises(DBAPIError, match='"size" does not exist'):
        await by_writing(one, SIZE)
