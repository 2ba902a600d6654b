"""A failed transaction is not taken for a committed one.

PostgreSQL answers the COMMIT of a failed transaction with the tag ROLLBACK and no error ("COMMIT", Notes; protocol,
"CommandComplete"). asyncpg and SQLAlchemy do not look at the tag.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from app_db import Database, Session, script_session
from app_db.driver import TransactionDivided, TransactionFailed
from app_db.hosts import Hosts
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.models import JobQueue
from app_db.outage import DatabaseUnavailable, is_outage
from app_db.settings import DatabaseSettings

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]

MAIL = insert(JobQueue).values(name="mail")
FAILS = text("SELECT 1 / 0")


class Block:
    """A random function: it writes a row, fails or does nothing, then runs its parts, in a savepoint or not."""

    def __init__(self, fails: bool, is_saved: bool, parts: "list[Block]") -> None:
        self.fails, self.is_saved, self.parts = fails, is_saved, parts

    def __repr__(self) -> str:
        return f"{'S' if self.is_saved else ''}{'!' if self.fails else '.'}{self.parts or ''}"


BLOCKS = st.recursive(
    st.builds(Block, st.booleans(), st.booleans(), st.just([])),
    lambda parts: st.builds(Block, st.booleans(), st.booleans(), st.lists(parts, max_size=3)),
    max_leaves=8,
)


async def swallow(session: Session, statement: str | None = None) -> None:
    with suppress(DBAPIError):
        await session.execute(FAILS if statement is None else text(statement))


class Run:
    """Runs blocks, each of which catches its own errors, and knows which rows PostgreSQL should keep."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.has_failed = False
        self.rows: set[str] = set()
        self.count = 0

    async def run(self, block: Block) -> None:
        before = set(self.rows)
        if block.is_saved and not self.has_failed:
            try:
                async with self.session.begin_nested():
                    await self._do(block)
                    if self.has_failed:
                        raise LookupError  # as RELEASE would fail: caught outside of the savepoint
            except LookupError:
                self.has_failed, self.rows = False, before
        else:
            await self._do(block)

    async def _do(self, block: Block) -> None:
        self.count += 1
        name = f"q{self.count}"
        if not self.has_failed:
            await self.session.execute(insert(JobQueue).values(name=name))
            self.rows.add(name)
            if block.fails:
                await swallow(self.session)
                self.has_failed = True
        for part in block.parts:
            await self.run(part)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(block=BLOCKS)
async def test_errors_that_are_caught_at_any_depth_are_kept_from_a_commit(database: Database, block: Block) -> None:
    run = None
    try:
        async with database.unit_of_work() as session:
            run = Run(session)
            await run.run(block)
        committed = True
    except TransactionFailed:
        committed = False

    async with database.sessions.begin() as session:
        kept = set(await session.scalars(select(JobQueue.name)))
        await session.execute(text("DELETE FROM job_queues"))
    assert run is not None
    assert committed is not run.has_failed
    assert kept == (run.rows if committed else set())


async def commit_by_unit_of_work(database: Database, work: Callable[[Session], Awaitable[None]]) -> None:
    async with database.unit_of_work() as session:
        await work(session)


async def commit_by_session(database: Database, work: Callable[[Session], Awaitable[None]]) -> None:
    async with database.sessions.begin() as session:
        await work(session)


async def commit_by_script(database: Database, work: Callable[[Session], Awaitable[None]]) -> None:
    async with script_session(database.settings) as session:
        await work(session)


@pytest.mark.parametrize("commit", [commit_by_unit_of_work, commit_by_session, commit_by_script])
async def test_a_commit_that_rolled_back_is_an_error(
    database: Database, session: Session, commit: Callable[..., Awaitable[None]]
) -> None:
    async def work(own: Session) -> None:
        await own.execute(MAIL)
        await swallow(own)

    with pytest.raises(TransactionFailed):
        await commit(database, work)

    assert list(await session.scalars(select(JobQueue.name))) == []


async def test_a_commit_names_the_error_that_was_caught(database: Database) -> None:
    async def work(session: Session) -> None:
        await session.execute(MAIL)
        await swallow(session, "INSERT INTO job_queues (name) VALUES ('mail')")

    with pytest.raises(TransactionFailed, match="UniqueViolationError: duplicate key") as failure:
        await commit_by_unit_of_work(database, work)

    assert "(mail)" not in str(failure.value)  # logs must not show stored values


async def test_an_error_of_an_earlier_transaction_is_not_named(open_with: OpenWith) -> None:
    async def past_sqlalchemy(session: Session) -> None:  # which would have noted the error
        driver: Any = (await (await session.connection()).get_raw_connection()).driver_connection
        await session.execute(MAIL)
        with pytest.raises(asyncpg.DivisionByZeroError):
            await driver.fetch("SELECT 1 / 0")

    async with open_with(pool_size=1) as second:
        with pytest.raises(TransactionFailed, match="by zero"):
            await commit_by_unit_of_work(second, swallow)

        with pytest.raises(TransactionFailed) as failure:
            await commit_by_unit_of_work(second, past_sqlalchemy)

    assert "by zero" not in str(failure.value)


async def test_who_goes_on_in_a_failed_transaction_is_told(database: Database) -> None:
    async def work(session: Session) -> None:
        await swallow(session)
        await session.execute(MAIL)

    with pytest.raises(TransactionFailed, match="division by zero"):
        await commit_by_unit_of_work(database, work)


async def test_nothing_that_hangs_on_a_commit_happens_without_one(database: Database) -> None:
    class Note(JobPayload):
        kind = "test.note"

    async def work(session: Session) -> None:
        await enqueue(session, Note())
        await swallow(session)

    before = dict(database.enqueued)

    with pytest.raises(TransactionFailed):
        await commit_by_unit_of_work(database, work)

    assert dict(database.enqueued) == before


async def test_a_flush_whose_error_was_caught_is_an_error_too(database: Database, session: Session) -> None:
    async def work(own: Session) -> None:
        own.add_all([JobQueue(name="mail"), JobQueue(name="mail")])
        with suppress(DBAPIError):
            await own.flush()

    with pytest.raises(PendingRollbackError, match="duplicate key"):
        await commit_by_unit_of_work(database, work)

    assert list(await session.scalars(select(JobQueue.name))) == []


async def test_an_outage_that_was_caught_is_one(open_with: OpenWith) -> None:
    async with open_with(statement_timeout=timedelta(milliseconds=50)) as second:
        with pytest.raises(DatabaseUnavailable):
            await commit_by_unit_of_work(second, partial(swallow, statement="SELECT pg_sleep(5)"))


async def test_an_outage_that_was_caught_at_a_flush_is_one(open_with: OpenWith, session: Session) -> None:
    """SQLAlchemy says of it "has been rolled back due to a previous exception during flush", without a cause."""

    async def work(own: Session) -> None:
        own.add(JobQueue(name="mail"))
        with suppress(DBAPIError):
            await own.flush()
        await own.execute(text("SELECT 1"))

    await session.execute(MAIL)  # not committed yet: another insert of it waits
    async with open_with(lock_timeout=timedelta(milliseconds=50)) as second:
        with pytest.raises(DatabaseUnavailable):
            await commit_by_unit_of_work(second, work)


async def test_a_connection_whose_loss_was_caught_is_an_outage(database: Database) -> None:
    async def work(session: Session) -> None:
        await swallow(session, "SELECT pg_terminate_backend(pg_backend_pid())")
        await session.execute(MAIL)

    with pytest.raises(DatabaseUnavailable):
        await commit_by_unit_of_work(database, work)


async def test_a_failed_transaction_leaves_a_usable_connection(open_with: OpenWith) -> None:
    async with open_with(pool_size=1) as second:
        with pytest.raises(TransactionFailed):
            await commit_by_unit_of_work(second, swallow)

        async with second.unit_of_work() as session:
            await session.execute(MAIL)


async def test_a_connection_past_sqlalchemy_tells_too(database_settings: DatabaseSettings, database: Database) -> None:
    connection = await Hosts(database_settings.direct_dsn, connect_timeout=timedelta(seconds=5)).connect()
    transaction = connection.transaction()
    await transaction.start()
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.execute("SELECT 1 / 0")

    with pytest.raises(TransactionFailed):
        await transaction.commit()

    await connection.close()


@pytest.mark.parametrize("end", ["commit", "rollback", "release"])
async def test_a_block_that_is_to_be_undivided_cannot_end_its_transaction(database: Database, end: str) -> None:
    async with database.sessions() as session:
        await session.execute(MAIL)

        with pytest.raises(TransactionDivided), session.undivided():
            await getattr(session, end)()


async def test_a_savepoint_does_not_divide_a_transaction(database: Database) -> None:
    async with database.sessions.begin() as session:
        await session.execute(MAIL)
        with session.undivided(), pytest.raises(DBAPIError):
            async with session.begin_nested():
                await session.execute(FAILS)


def test_a_failed_transaction_of_which_nothing_is_known_is_a_fault_of_ours() -> None:
    assert not is_outage(TransactionFailed())
