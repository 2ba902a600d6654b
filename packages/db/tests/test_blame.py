"""Whose fault a failure is. SQLSTATEs are those of PostgreSQL, appendix A."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from app_db import Database, Session
from app_db.driver import DriverConnection, TransactionEnded
from app_db.outage import Blame, DatabaseUnavailable, NoAnswer, Refused, blame, is_connection_lost, is_damage, is_outage

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]

SOON = timedelta(milliseconds=200)


def raised(sqlstate: str, message: str = "told", **fields: str) -> DBAPIError:
    """Return the error of SQLAlchemy for this answer of Postgres (protocol, "Error and Notice Message Fields")."""
    answer = {"S": "ERROR", "C": sqlstate, "M": message, **fields}
    cause = asyncpg.PostgresError.new(answer)
    return as_sqlalchemy(cause)


def as_sqlalchemy(cause: Exception, *, invalidated: bool = False) -> DBAPIError:
    orig: Exception = AsyncAdapt_asyncpg_dbapi.Error(str(cause), cause)  # type: ignore[no-untyped-call]  # it has none
    orig.__cause__ = cause
    return DBAPIError("SELECT", {}, orig, connection_invalidated=invalidated)


async def said(database: Database, sqlstate: str) -> Blame:
    statement = text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$")
    async with database.sessions() as session:
        with pytest.raises(DBAPIError) as error:
            await session.execute(statement)
    return blame(error.value)


@pytest.mark.parametrize(
    "sqlstate",
    ["08006", "53000", "53100", "53200", "53300", "55006", "57P01", "57P02", "57P03", "57P04", "58000", "58030",
     "58P01", "58P02", "F0000", "F0001", "XX000", "XX001", "XX002"],
)  # fmt: skip
async def test_what_the_server_cannot_do_is_its_own_fault(database: Database, sqlstate: str) -> None:
    assert await said(database, sqlstate) is Blame.SERVER


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "40002", "53400", "55P03", "57014", "72000"])
async def test_a_limit_or_a_clash_is_the_moments_fault(database: Database, sqlstate: str) -> None:
    assert await said(database, sqlstate) is Blame.MOMENT


@pytest.mark.parametrize(
    "sqlstate",
    ["0A000", "21000", "22012", "22023", "22P02", "23505", "23502", "25001", "28000", "2F003", "3F000", "42501",
     "42601", "42883", "42P01", "44000", "54000", "55000", "P0001", "AB123"],
)  # fmt: skip
async def test_what_fails_again_is_the_statements_fault(database: Database, sqlstate: str) -> None:
    assert await said(database, sqlstate) is Blame.STATEMENT


@pytest.mark.parametrize(
    ("sqlstate", "message", "where"),
    [
        ("42501", 'could not open file "base/5/1259": Permission denied', "md.c"),
        ("42501", 'could not extend file "base/5/1259": Read-only file system', "md.c"),
        ("42501", 'could not create file "pg_wal/xlogtemp.7": Read-only file system', "xlog.c"),
        ("42809", 'could not open file "pg_xact/0000": Is a directory', "slru.c"),
        ("54000", "database is not accepting commands that assign new transaction IDs", "varsup.c"),
        ("XX000", "could not write block 3: Disk quota exceeded", "md.c"),
    ],
)
def test_files_that_cannot_be_used_are_the_servers_fault(sqlstate: str, message: str, where: str) -> None:
    """PostgreSQL, errcode_for_file_access(): EACCES, EPERM and EROFS are 42501, errors without a code XX000."""
    error = raised(sqlstate, message, F=where)

    assert blame(error) is Blame.SERVER
    assert is_damage(error)


@pytest.mark.parametrize(("sqlstate", "where"), [("42501", "aclchk.c"), ("42501", "execMain.c"), ("42P01", "md.c2")])
def test_a_role_that_may_not_is_no_damage(sqlstate: str, where: str) -> None:
    error = raised(sqlstate, "permission denied for table users", F=where)

    assert blame(error) is Blame.STATEMENT
    assert not is_damage(error)


@pytest.mark.parametrize("sqlstate", ["58030", "58P01", "F0001", "XX001", "XX002"])
def test_files_that_are_broken_are_damage(sqlstate: str) -> None:
    assert is_damage(raised(sqlstate))


@pytest.mark.parametrize(("sqlstate", "message"), [("57P01", "shutdown"), ("XX000", "cache lookup failed for type 7")])
def test_what_passes_by_itself_is_no_damage(sqlstate: str, message: str) -> None:
    assert not is_damage(raised(sqlstate, message))


@pytest.mark.parametrize("sqlstate", ["25P03", "25P04", "57014"])
def test_a_limit_of_the_transaction_costs_its_job_an_attempt(sqlstate: str) -> None:
    error = raised(sqlstate)

    assert is_outage(error)
    assert not is_connection_lost(error)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("query timeout", Blame.MOMENT),
        ("idle transaction timeout", Blame.MOMENT),
        ("transaction timeout", Blame.MOMENT),
        ("query_wait_timeout", Blame.SERVER),
        ("server conn crashed?", Blame.SERVER),
    ],
)
def test_a_pooler_is_understood_by_its_text(message: str, fault: Blame) -> None:
    """PgBouncer 1.25 says 08P01 for all of it, and closes the connection."""
    inner = raised("08P01", message).orig
    assert inner is not None
    lost = asyncpg.ConnectionDoesNotExistError(f"connection was closed in the middle of operation: {message}")
    lost.__cause__ = inner.__cause__

    assert blame(as_sqlalchemy(lost, invalidated=True)) is fault


def test_going_on_without_a_connection_that_was_lost_is_an_outage() -> None:
    assert is_outage(PendingRollbackError("Can't reconnect", code="8s2b"))
    assert not is_outage(PendingRollbackError("a flush has failed", code="7s2a"))


def test_a_group_of_errors_is_the_fault_of_its_worst() -> None:
    """modelcontextprotocol/python-sdk #2114: what tasks raise comes in groups, even a single error."""
    lost, late, ours = NoAnswer("gone"), TransactionEnded("idle"), ValueError("odd")

    assert blame(ExceptionGroup("tasks", [ExceptionGroup("tasks", [lost])])) is Blame.SERVER
    assert blame(ExceptionGroup("tasks", [lost, late])) is Blame.MOMENT
    assert blame(ExceptionGroup("tasks", [late, ours, lost])) is Blame.STATEMENT


def test_a_reason_is_told_where_the_server_gave_one() -> None:
    refused, away = DatabaseUnavailable(), DatabaseUnavailable()
    refused.__cause__ = Refused("the database refuses: no such role")

    assert refused.reason() == "the database refuses: no such role"
    assert away.reason() == DatabaseUnavailable.describe()


async def idle(session: Session) -> None:
    await session.execute(text("SELECT 1"))
    await asyncio.sleep(0.5)
    await session.execute(text("SELECT 1"))


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        ("idle_in_transaction_timeout", "idle_in_transaction_session_timeout"),
        ("transaction_timeout", "transaction_timeout"),
    ],
)
async def test_a_transaction_that_idles_for_too_long_is_named(open_with: OpenWith, limit: str, name: str) -> None:
    """asyncpg 0.32 drops the server's message on an idle connection: an InterfaceError without SQLSTATE is left."""
    async with open_with(**{limit: SOON}) as second:
        with pytest.raises(TransactionEnded, match=name) as error:
            async with second.sessions.begin() as session:
                await idle(session)

        assert blame(error.value) is Blame.MOMENT
        with pytest.raises(DatabaseUnavailable):
            async with second.unit_of_work() as session:
                await idle(session)


async def test_a_limit_is_named_while_the_connection_closes(session: Session) -> None:
    """asyncpg 0.32 closes a connection at once, and tells its listeners one turn of the loop later."""
    connection = await session.connection()
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, DriverConnection)
    driver.limit(idle=timedelta(milliseconds=1), total=timedelta())
    driver.terminate()

    assert driver.lost_at is None
    assert driver.limit_that_ended_it() == "idle_in_transaction_session_timeout"
    await connection.invalidate()


async def test_a_transaction_that_lasts_for_too_long_is_named_while_it_works(open_with: OpenWith) -> None:
    """asyncpg 0.32 says 08003 and hides 25P04 in the cause."""
    async with open_with(transaction_timeout=SOON) as second, second.sessions() as session:
        with pytest.raises(TransactionEnded, match="transaction_timeout") as error:
            await session.execute(text("SELECT pg_sleep(5)"))

    assert blame(error.value) is Blame.MOMENT


async def test_a_connection_that_is_ended_by_somebody_else_reached_no_limit(
    database: Database, open_with: OpenWith
) -> None:
    async with open_with(idle_in_transaction_timeout=timedelta(hours=1)) as second, second.sessions() as session:
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        async with database.sessions() as other:
            await other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        with pytest.raises(DBAPIError) as error:
            await session.execute(text("SELECT 1"))

    assert blame(error.value) is Blame.SERVER
