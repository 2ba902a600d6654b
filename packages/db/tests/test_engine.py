"""The two engines: their refusals, the number of their connections, and dead connections."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from app_db import Database, Session, script_session
from app_db.models import JobQueue
from app_db.outage import DatabaseUnavailable
from app_db.settings import DatabaseSettings

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]
type EndBackend = Callable[[int], Awaitable[None]]
type Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]

SOON = timedelta(milliseconds=50)
ALWAYS = timedelta(0)
NEVER = timedelta(hours=1)
BACKEND = text("SELECT pg_backend_pid()")


async def backend_of(session: Session) -> int:
    pid: int = (await session.scalars(BACKEND)).one()
    return pid


async def test_the_read_engine_cannot_write(database: Database) -> None:
    async with database.read_sessions() as session:
        with pytest.raises(DBAPIError) as refusal:
            await session.execute(insert(JobQueue).values(name="mail"))

    assert getattr(refusal.value.orig, "sqlstate", None) == "25006"  # read_only_sql_transaction, said by Postgres


async def test_a_read_opens_no_transaction(database: Database, session: Session) -> None:
    async with database.read_sessions() as reader:
        pid = await backend_of(reader)

        state = await session.scalar(text("SELECT state FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid})

    assert state == "idle"


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_pool_stays_at_its_size(open_with: OpenWith, *, read_only: bool) -> None:
    async with open_with(pool_size=2, read_pool_size=2) as second:

        async def backend_of_a_query() -> int:
            async with second.unit_of_work(read_only=read_only) as session:
                await session.execute(text("SELECT pg_sleep(0.01)"))
                return await backend_of(session)

        backends = await asyncio.gather(*(backend_of_a_query() for _ in range(10)))

    assert len(set(backends)) == 2


async def test_no_free_connection_is_an_outage_once_the_wait_is_over(open_with: OpenWith) -> None:
    async with open_with(pool_size=1, pool_timeout=SOON) as second, second.unit_of_work() as holder:
        await backend_of(holder)

        with pytest.raises(DatabaseUnavailable):
            async with second.unit_of_work() as session:
                await backend_of(session)


async def test_a_connection_that_died_while_idle_is_replaced(open_with: OpenWith, end_backend: EndBackend) -> None:
    async with open_with(pool_size=1, ping_after_idle=ALWAYS) as second:
        async with second.unit_of_work() as session:
            dead = await backend_of(session)
        await end_backend(dead)

        async with second.unit_of_work() as session:
            alive = await backend_of(session)

    assert alive != dead


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_connection_that_was_closed_while_idle_is_not_used(
    open_with: OpenWith, end_backend: EndBackend, until: Until, read_only: bool
) -> None:
    """A proxy, `idle_session_timeout`, a restart: the driver knows before the next query (lion-reader PR #336)."""
    async with open_with(pool_size=1, read_pool_size=1, ping_after_idle=NEVER) as second:
        async with second.unit_of_work(read_only=read_only) as session:
            driver: Any = (await (await session.connection()).get_raw_connection()).driver_connection
            dead = await backend_of(session)
        await end_backend(dead)

        async def is_closed() -> bool:
            return bool(driver.is_closed())

        await until(is_closed)

        async with second.unit_of_work(read_only=read_only) as session:
            alive = await backend_of(session)

    assert alive != dead


async def test_an_idle_connection_that_lives_is_kept(open_with: OpenWith) -> None:
    async with open_with(pool_size=1, ping_after_idle=ALWAYS) as second:
        async with second.unit_of_work() as session:
            before = await backend_of(session)

        async with second.unit_of_work() as session:
            after = await backend_of(session)

    assert after == before


async def test_a_busy_connection_is_not_pinged(open_with: OpenWith) -> None:
    asked: list[Any] = []
    async with open_with(pool_size=1, ping_after_idle=NEVER) as second:
        async with second.unit_of_work() as session:
            driver: Any = (await (await session.connection()).get_raw_connection()).driver_connection
            driver.add_query_logger(asked.append)

        async with second.unit_of_work() as session:
            await backend_of(session)

    assert asked[0].query.startswith("BEGIN")


async def test_a_death_that_a_statement_found_does_not_come_back(open_with: OpenWith, end_backend: EndBackend) -> None:
    async def die(session: Session, dead: int) -> None:
        await end_backend(dead)
        await backend_of(session)

    async with open_with(pool_size=1, ping_after_idle=NEVER) as second:
        async with second.unit_of_work() as session:
            dead = await backend_of(session)
        with pytest.raises(DatabaseUnavailable):
            async with second.unit_of_work() as session:
                await die(session, await backend_of(session))

        async with second.unit_of_work() as session:
            assert await backend_of(session) != dead


async def test_a_released_session_holds_no_connection(open_with: OpenWith) -> None:
    async with open_with(pool_size=1, pool_timeout=SOON) as second, second.unit_of_work() as slow:
        await backend_of(slow)

        await slow.release()

        async with second.unit_of_work() as other:
            assert await backend_of(other)


async def test_a_released_session_can_go_on(database: Database) -> None:
    async with database.unit_of_work() as session:
        await backend_of(session)
        await session.release()

        session.add(JobQueue(name="mail"))

    async with database.read_sessions() as reader:
        assert await reader.get(JobQueue, "mail") is not None


async def test_releasing_what_was_not_written_yet_is_refused(session: Session) -> None:
    session.add(JobQueue(name="mail"))

    with pytest.raises(AssertionError, match="lose"):
        await session.release()


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("application_name", "second"),
        ("statement_timeout", "1234ms"),
        ("lock_timeout", "1s"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("transaction_timeout", "90s"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "2"),
        ("jit", "off"),
    ],
)
async def test_the_server_knows_the_limits_of_the_settings(open_with: OpenWith, parameter: str, value: str) -> None:
    settings = {
        "statement_timeout": timedelta(milliseconds=1234),
        "lock_timeout": timedelta(seconds=1),
        "idle_in_transaction_timeout": timedelta(minutes=1),
        "transaction_timeout": timedelta(seconds=90),
    }

    async with open_with(**settings) as second, second.unit_of_work() as session:
        shown = await session.scalar(text(f"SHOW {parameter}"))

    assert shown == value


async def test_a_script_keeps_what_it_wrote(database: Database, database_settings: DatabaseSettings) -> None:
    async with script_session(database_settings) as session:
        session.add(JobQueue(name="mail"))

    async with database.read_sessions() as reader:
        assert await reader.get(JobQueue, "mail") is not None


async def test_a_script_that_fails_leaves_nothing(database: Database, database_settings: DatabaseSettings) -> None:
    async def fail() -> None:
        async with script_session(database_settings) as session:
            await session.execute(insert(JobQueue).values(name="mail"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    async with database.read_sessions() as reader:
        assert (await reader.scalars(select(JobQueue))).all() == []


async def test_a_closed_database_leaves_no_connection(database: Database, open_with: OpenWith, until: Until) -> None:
    async with open_with() as second, second.unit_of_work() as session, second.unit_of_work(read_only=True) as reader:
        backends = [await backend_of(session), await backend_of(reader)]

    async def are_gone() -> bool:
        statement = text("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = ANY (:pids)")
        async with database.read_sessions() as watcher:
            return bool(await watcher.scalar(statement, {"pids": backends}))

    await until(are_gone)  # the server takes a moment to notice


async def test_one_statement_that_writes_is_committed_at_once(database: Database) -> None:
    row_of_mail = text("INSERT INTO job_queues (name) VALUES (:name) RETURNING name").columns(JobQueue.name)

    (row,) = await database.write_all(row_of_mail, {"name": "mail"})

    assert row.name == "mail"
    async with database.read_sessions() as session:
        assert await session.get(JobQueue, "mail") is not None
