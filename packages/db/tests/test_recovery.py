"""A caller that leaves while its statement runs costs no connection, and no later caller meets what it left behind."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Executable, bindparam, event, func, insert, literal, select, text, update

from app_db import Database, Session, open_database
from app_db.dialect import dialect_of
from app_db.driver import PATIENCE_WITH_A_GOODBYE
from app_db.models import JobQueue
from app_db.outage import DatabaseUnavailable
from app_db.pool import pool_of
from app_db.settings import DatabaseSettings
from app_runtime.testing.network import Network

pytestmark = pytest.mark.integration

type OpenWith = Callable[..., AbstractAsyncContextManager[Database]]

SLEEP = text("SELECT pg_sleep(10)")
PID = text("SELECT pg_backend_pid()")
SOON = timedelta(milliseconds=100)
FAR = 0.3


async def pid(database: Database, *, read_only: bool = False) -> int:
    async with database.unit_of_work(read_only=read_only) as work:
        found: int = await work.scalar(PID)
    return found


async def cut_off(database: Database, *, read_only: bool = False, after: float = 0.1) -> None:
    """Cancel a caller while its statement runs."""

    async def sleep() -> None:
        async with database.unit_of_work(read_only=read_only) as work:
            await work.execute(SLEEP)

    task = asyncio.create_task(sleep())
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@asynccontextmanager
async def over(network: Network, database: Database, **changes: Any) -> AsyncIterator[Database]:
    url = database.settings.sqlalchemy_url.set(host="127.0.0.1", port=network.port)
    given = {"url": url.render_as_string(hide_password=False), "pool_size": 1, "ping_timeout": 2}
    settings = DatabaseSettings.model_validate(given | {"request_timeout": 30, "connect_timeout": 20} | changes)
    async with open_database(settings, name="far") as opened:
        yield opened


@asynccontextmanager
async def network_to(database: Database, *, round_trip: float = 0) -> AsyncIterator[Network]:
    url = database.settings.sqlalchemy_url
    async with Network(url.host or "", url.port or 5432, round_trip=round_trip).open() as network:
        yield network


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_connection_whose_statement_ended_is_kept(open_with: OpenWith, *, read_only: bool) -> None:
    async with open_with(pool_size=1, read_pool_size=1) as second:
        before = await pid(second, read_only=read_only)
        await cut_off(second, read_only=read_only)

        assert await pid(second, read_only=read_only) == before


async def test_a_deadline_costs_no_connection_either(open_with: OpenWith) -> None:
    async with open_with(pool_size=1, request_timeout=SOON * 5) as second:
        before = await pid(second)
        with pytest.raises(DatabaseUnavailable):
            async with second.unit_of_work() as work:
                await work.execute(SLEEP)

        assert await pid(second) == before


async def test_a_query_alone_that_is_cancelled_leaves_a_connection_for_transactions(
    open_with: OpenWith, session: Session
) -> None:
    """It ran in autocommit, in which a rollback does nothing."""
    async with open_with(pool_size=1) as second:
        before = await pid(second)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), second.sessions() as work:
                await work.read_alone(select(func.pg_sleep(10)), {})
        async with second.sessions() as work:
            await work.execute(insert(JobQueue).values(name="mail"))

        assert await pid(second) == before
    assert await session.scalar(select(func.count()).select_from(JobQueue)) == 0


async def test_a_far_server_has_time_to_end_a_statement(database: Database) -> None:
    async with network_to(database, round_trip=FAR) as network, over(network, database) as far:
        before = await pid(far)
        await cut_off(far, after=2.5 * FAR)  # BEGIN has its answer
        pool = pool_of(far.engine)
        assert (pool.checkedin(), pool.opened) == (0, 1)  # nobody else can have it yet
        began = time.monotonic()

        assert await pid(far) == before
        assert time.monotonic() - began < 6 * FAR


async def test_a_transaction_that_just_began_is_rolled_back(database: Database) -> None:
    async with network_to(database, round_trip=FAR) as network, over(network, database) as far:
        before = await pid(far)
        await cut_off(far, after=0.5 * FAR)  # BEGIN is on its way

        assert await pid(far) == before


async def test_a_connection_that_confirms_nothing_is_closed(database: Database) -> None:
    async with network_to(database) as network, over(network, database) as behind:
        before = await pid(behind)
        async with behind.engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
        began = time.monotonic()

        async def forget() -> None:
            await asyncio.sleep(0.05)
            network.forget()

        await asyncio.gather(forget(), cut_off(behind))
        after = await pid(behind)

        assert after != before
        assert driver.is_closed()
        assert time.monotonic() - began < 4 * PATIENCE_WITH_A_GOODBYE


async def test_a_caller_that_is_cancelled_twice_gives_its_connection_back_once(database: Database) -> None:
    async with network_to(database, round_trip=FAR) as network, over(network, database) as far:
        before = await pid(far)

        async def sleep() -> None:
            async with far.unit_of_work() as work:
                await work.execute(SLEEP)

        task = asyncio.create_task(sleep())
        await asyncio.sleep(2.5 * FAR)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(FAR / 3)
        await asyncio.wait([task])

        assert task.cancelled()
        assert await pid(far) == before
        assert (pool_of(far.engine).checkedin(), pool_of(far.engine).opened) == (1, 1)


async def test_a_database_that_closes_leaves_nothing_behind(database: Database) -> None:
    async with network_to(database, round_trip=FAR) as network:
        async with over(network, database) as far:
            await pid(far)
            await cut_off(far, after=2.5 * FAR)
            pool = pool_of(far.engine)
            assert pool.opened == 1

        assert not pool._coming_back


async def test_a_server_that_was_left_is_not_gone_back_to(open_with: OpenWith) -> None:
    """Another caller may have seen meanwhile that it is no primary any more."""
    async with open_with(pool_size=1) as second:
        before = await pid(second)

        async def leave() -> None:
            await asyncio.sleep(0.05)
            dialect_of(second.engine).leave()

        await asyncio.gather(leave(), cut_off(second))

        assert await pid(second) != before


MOMENTS = 400


class Callers:
    """Callers that use a pool of two connections in all ways, and are cancelled at any moment."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.random = random.Random(seed)
        self.kept: set[str] = set()
        """What was committed for sure."""
        self.unknown: set[str] = set()
        """What may be committed: the caller left during its COMMIT."""
        self.connected = 0
        for engine in (database.engine, database.read_engine):
            event.listen(engine.sync_engine, "connect", self._count)

    def _count(self, *_: object) -> None:
        self.connected += 1

    async def step(self, number: int) -> None:
        """Let one caller begin, and leave most of them after a random time."""
        way = self.random.choice([self._writes, self._writes_many, self._reads_alone, self._reads, self._new_statement])
        task = asyncio.create_task(way(f"q{number}"))
        await asyncio.sleep(self.random.uniform(0, self.random.choice([0.001, 0.004, 0.016, 0.064])))
        if number % 8:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _writes(self, name: str) -> None:
        async with self.database.sessions() as work:
            await self._asks(work, name)
            await work.execute(insert(JobQueue).values(name=name))
            if self.random.random() < 0.3:
                return
            self.unknown.add(name)
            await work.commit()
            self.unknown.remove(name)
            self.kept.add(name)

    async def _writes_many(self, name: str) -> None:
        names = [f"{name}-{part}" for part in range(5)]
        async with self.database.sessions() as work:
            await work.execute(insert(JobQueue), [{"name": each} for each in names])
            paused = update(JobQueue).where(JobQueue.name == bindparam("was")).values(name=bindparam("now"))
            await (await work.connection()).execute(paused, [{"was": each, "now": each} for each in names])

    async def _reads_alone(self, name: str) -> None:
        async with self.database.sessions() as work:
            row = await work.read_alone(select(literal(name)), {})
            assert row == (name,)

    async def _reads(self, name: str) -> None:
        async with self.database.read_sessions() as work:
            await self._asks(work, name)

    async def _new_statement(self, name: str) -> None:
        async with self.database.sessions() as work:
            assert await work.scalar(text(f"SELECT '{name}'::text")) == name

    async def _asks(self, work: Session, name: str) -> None:
        """Whoever gets the answer of another, or the transaction of another, sees it here."""
        query: Executable = text("SELECT :name ::text, pg_current_xact_id_if_assigned()::text").bindparams(name=name)
        assert (await work.execute(query)).one() == (name, None)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_callers_that_leave_at_any_moment_disturb_no_other(
    open_with: OpenWith, session: Session, seed: int
) -> None:
    async with open_with(pool_size=2, read_pool_size=2, pool_timeout=timedelta(seconds=4)) as second:
        callers = Callers(second, seed)
        for number in range(0, MOMENTS, 4):
            await asyncio.gather(*(callers.step(number + part) for part in range(4)))
        pids = {await pid(second) for _ in range(3)}
        for engine in (second.engine, second.read_engine):
            assert pool_of(engine).checkedout() == 0
            assert pool_of(engine).opened <= 2

    found = set(await session.scalars(select(JobQueue.name)))
    assert len(pids) == 1
    assert callers.kept <= found <= callers.kept | callers.unknown
    assert callers.kept
    assert callers.connected < MOMENTS / 20
