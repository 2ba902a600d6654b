"""The writes that a unit of work keeps, and its failures that are the database's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Executable, TextClause, insert, select, text
from sqlalchemy.exc import DBAPIError

from app_db import Database, Session, open_database
from app_db.models import Job, JobQueue
from app_db.outage import DatabaseUnavailable, is_connection_lost
from app_db.settings import DatabaseSettings
from app_db.types import new_id

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]
type OpenAs = Callable[..., Awaitable[Database]]

SOON = timedelta(milliseconds=50)
SLEEP = text("SELECT pg_sleep(:seconds)").bindparams(seconds=10)
MAIL = insert(JobQueue).values(name="mail")


def raising(sqlstate: str) -> TextClause:
    """A statement that Postgres answers with this error."""
    return text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$")


async def run(database: Database, *statements: Executable, read_only: bool = False) -> None:
    async with database.unit_of_work(read_only=read_only) as work:
        for statement in statements:
            await work.execute(statement)


async def queues(session: Session) -> list[str]:
    return list(await session.scalars(select(JobQueue.name)))


async def test_a_unit_of_work_that_ends_well_is_kept(database: Database, session: Session) -> None:
    await run(database, MAIL)

    assert await queues(session) == ["mail"]


async def test_a_unit_of_work_that_fails_leaves_nothing(database: Database, session: Session) -> None:
    with pytest.raises(DBAPIError, match="division by zero"):
        await run(database, MAIL, text("SELECT 1 / 0"))

    assert await queues(session) == []


async def test_a_unit_of_work_that_took_too_long_is_an_outage_and_leaves_nothing(
    open_with: OpenWith, session: Session
) -> None:
    async with open_with(request_timeout=SOON) as second:
        with pytest.raises(DatabaseUnavailable):
            await run(second, MAIL, SLEEP)

    assert await queues(session) == []


async def test_a_unit_of_work_that_is_cancelled_gives_its_connection_back(
    open_with: OpenWith, session: Session
) -> None:
    async with open_with(pool_size=1, pool_timeout=SOON) as second:
        written = asyncio.Event()

        async def write_and_wait() -> None:
            async with second.unit_of_work() as work:
                await work.execute(MAIL)
                written.set()
                await asyncio.sleep(10)

        task = asyncio.create_task(write_and_wait())
        await written.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await run(second, SLEEP.bindparams(seconds=0))

    assert await queues(session) == []


async def test_a_refused_connection_is_an_outage(refusing_url: str) -> None:
    async with open_database(DatabaseSettings.model_validate({"url": refusing_url}), name="test") as database:
        with pytest.raises(DatabaseUnavailable):
            await run(database, MAIL)


@pytest_asyncio.fixture(loop_scope="session")
async def refusing(database: Database, database_settings: DatabaseSettings) -> AsyncIterator[OpenAs]:
    """Return a function that opens the test's database as a role with the given restriction."""
    name, opened = f"r{new_id().hex}", []

    async def run_as_owner(statement: str) -> None:
        async with database.autocommit_sessions() as session:
            await session.execute(text(statement.format(name=name)))

    async def open_as(*statements: str, password: str = "right") -> Database:
        for statement in statements:
            await run_as_owner(statement)
        url = database_settings.sqlalchemy_url.set(username=name, password=password)
        settings = DatabaseSettings.model_validate({"url": url.render_as_string(hide_password=False)})
        opened.append(Database(settings, name="test"))
        return opened[-1]

    await run_as_owner("CREATE ROLE {name} LOGIN PASSWORD 'right'")
    yield open_as
    for each in opened:
        await each.close()
    await run_as_owner("DROP OWNED BY {name}")
    await run_as_owner("DROP ROLE {name}")


@pytest.mark.parametrize(
    ("statement", "password", "reason"),
    [
        ("SELECT 1", "changed", "password authentication failed"),
        ("ALTER ROLE {name} NOLOGIN", "right", "not permitted to log in"),
        ("ALTER ROLE {name} CONNECTION LIMIT 0", "right", "too many connections"),
        ("ALTER ROLE {name} VALID UNTIL '2000-01-01'", "right", "password authentication failed"),
    ],
)
async def test_a_role_that_is_refused_is_an_outage(
    refusing: OpenAs, statement: str, password: str, reason: str
) -> None:
    """PostgreSQL: 28P01, 28000, 53300; no statement was sent yet, so no statement is at fault."""
    refused = await refusing(statement, password=password)

    with pytest.raises(DatabaseUnavailable) as outage:
        await run(refused, MAIL)

    assert reason in outage.value.reason()
    assert "changed" not in outage.value.reason()
    assert is_connection_lost(outage.value.__cause__ or outage.value)
    assert refused.failures["refused"] == 1


async def test_a_setting_that_the_server_does_not_take_is_an_outage(database_settings: DatabaseSettings) -> None:
    """PostgreSQL refuses a parameter of a new connection with 22023 (PgBouncer with 08P01)."""
    too_long = database_settings.model_copy(update={"statement_timeout": timedelta(days=100)})
    async with open_database(too_long, name="test") as second:
        with pytest.raises(DatabaseUnavailable) as outage:
            await run(second, MAIL)

    assert "statement_timeout" in outage.value.reason()


async def test_a_connection_that_ends_in_a_transaction_is_an_outage(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await run(database, MAIL, text("SELECT pg_terminate_backend(pg_backend_pid())"))


async def test_a_row_that_stays_locked_is_an_outage(open_with: OpenWith, session: Session) -> None:
    await session.execute(MAIL)

    async with open_with(lock_timeout=SOON) as second:
        with pytest.raises(DatabaseUnavailable):
            await run(second, MAIL)


@pytest.mark.parametrize("limit", ["statement_timeout", "command_timeout"])
async def test_a_statement_that_takes_too_long_is_an_outage(open_with: OpenWith, limit: str) -> None:
    async with open_with(**{limit: SOON}) as second:
        with pytest.raises(DatabaseUnavailable):
            await run(second, SLEEP)


async def test_a_primary_that_has_become_read_only_is_an_outage(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await run(database, text("SET TRANSACTION READ ONLY"), MAIL)


async def test_a_write_on_the_read_engine_is_our_own_fault(database: Database) -> None:
    with pytest.raises(DBAPIError, match="read-only transaction"):
        await run(database, MAIL, read_only=True)


@pytest.mark.parametrize("sqlstate", ["08006", "53100", "53300", "57014", "57P01", "57P03", "55P03", "40001", "40P01"])
async def test_what_may_pass_is_an_outage_with_its_cause(database: Database, sqlstate: str) -> None:
    with pytest.raises(DatabaseUnavailable) as outage:
        await run(database, raising(sqlstate))

    assert isinstance(outage.value.__cause__, DBAPIError)


@pytest.mark.parametrize("sqlstate", ["22012", "23505", "28000", "42601"])
async def test_what_will_not_pass_is_the_statements_fault(database: Database, sqlstate: str) -> None:
    with pytest.raises(DBAPIError):
        await run(database, raising(sqlstate))


async def test_an_argument_that_cannot_be_sent_is_the_statements_fault(database: Database) -> None:
    with pytest.raises(DBAPIError):
        await run(database, select(Job).where(Job.fence == 2**40))


async def test_a_file_that_is_missing_is_not_an_outage(database: Database, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with database.unit_of_work():
            (tmp_path / "missing").read_text()


async def test_another_systems_timeout_is_not_an_outage(database: Database) -> None:
    async def ask_another_system() -> None:
        async with database.unit_of_work(), asyncio.timeout(0):
            await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        await ask_another_system()
