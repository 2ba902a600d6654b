"""The time that is left for the next lock of a try."""

import time

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app_db import Database
from app_db.lock_budget import LockBudget

LIMIT = text("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'")


async def limits(database: Database, *, autocommit: bool = False) -> list[int]:
    """Return the limits, in milliseconds, before and after two statements of 0.3 s, and those of a new try."""

    def look(connection: Connection) -> list[int]:
        if autocommit:
            connection.execution_options(isolation_level="AUTOCOMMIT")
        with LockBudget(connection, per_try=0.5, deadline=time.monotonic() + 60) as budget:
            found = [connection.execute(LIMIT).scalar_one()]
            for _ in range(2):
                connection.execute(text("SELECT pg_sleep(0.3)"))
                found.append(connection.execute(LIMIT).scalar_one())
            budget.renew()
            found += [connection.execute(LIMIT).scalar_one()]
            return [*found, connection.execute(text("/* DROP CONCURRENTLY */" + LIMIT.text)).scalar_one()]

    async with database.engine.connect() as connection:
        return await connection.run_sync(look)


async def test_the_statements_of_a_try_share_its_patience(database: Database) -> None:
    first, second, third, renewed, concurrently = await limits(database)

    assert 50 < first <= 500
    assert 50 <= second <= 200
    assert third == 50, "a lock that is free is had at once"
    assert 50 < renewed <= 500
    assert 50_000 < concurrently <= 60_000


async def test_a_statement_by_itself_holds_nothing_when_the_next_one_waits(database: Database) -> None:
    first, second, third, renewed, _ = await limits(database, autocommit=True)

    assert first == second == third == renewed == 500


async def test_only_a_lock_is_worth_another_try(database: Database) -> None:
    def fail(connection: Connection) -> str | None:
        with LockBudget(connection, per_try=0.5, deadline=time.monotonic()) as budget:
            with pytest.raises(DBAPIError) as caught:
                connection.execute(text("SELECT 1 / 0"))
            connection.rollback()
            return budget.explain(caught.value)

    async with database.engine.connect() as connection:
        assert await connection.run_sync(fail) is None


async def test_a_lock_that_is_held_is_explained(database: Database) -> None:
    def wait(connection: Connection) -> str | None:
        with LockBudget(connection, per_try=0.1, deadline=time.monotonic()) as budget:
            with pytest.raises(DBAPIError) as caught:
                connection.execute(text("-- why\nLOCK TABLE job_crons IN ACCESS EXCLUSIVE MODE"))
            connection.rollback()
            return budget.explain(caught.value)

    async with database.sessions() as holder, database.engine.connect() as connection:
        await holder.execute(text("LOCK TABLE job_crons IN ACCESS SHARE MODE"))
        explained = await connection.run_sync(wait)

    assert explained is not None
    assert explained.startswith("LOCK TABLE job_crons IN ACCESS EXCLUSIVE MODE cannot have its lock beside test (pid ")


async def test_an_index_that_was_left_unfinished_is_dropped_before_it_is_made_again(database: Database) -> None:
    """IF NOT EXISTS takes an invalid index for the one that is asked for (PostgreSQL 18, CREATE INDEX)."""
    name = "ix_job_workers_pid"

    def make(connection: Connection) -> bool:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("SET statement_timeout = 0"))
        index = text("SELECT indisvalid FROM pg_index WHERE indexrelid = CAST(:name AS regclass)")
        connection.execute(text(f"CREATE INDEX {name} ON job_workers (pid)"))
        try:
            connection.execute(text(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass"))
            with LockBudget(connection, per_try=0.5, deadline=time.monotonic() + 60):
                connection.execute(text(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON job_workers (pid)"))
            return bool(connection.execute(index, {"name": name}).scalar_one())
        finally:
            connection.execute(text(f"DROP INDEX {name}"))
            connection.execute(text("RESET statement_timeout"))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(make)
