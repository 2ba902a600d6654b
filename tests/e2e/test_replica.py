"""Stale reads with a real primary and a real standby: which server answers, and what happens when one is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app_api.app import create_app
from app_api.dependencies import ReplicaSessionDep
from app_api.feature_settings import ALL_SETTINGS, READ_ELSEWHERE
from app_api.settings import ApiSettings
from app_api.testing import open_client
from app_db import Database, Session, open_database
from app_db.outage import DatabaseUnavailable
from app_db.repositories.replication import replication_lag
from app_runtime.configuration import load
from app_runtime.testing.processes import free_port

from .conftest import Environment, api_environment
from .processes import connected, eventually
from .replication import Primary, Standby, dsn_of

WHO = text("SELECT pg_is_in_recovery(), inet_server_port()")

type Answered = tuple[bool, int]
"""Whether a standby answered, and on which port."""


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Primary]:
    with Primary(tmp_path / "primary", port=free_port()) as primary:
        yield primary
    primary.erase()


@pytest.fixture
async def standby(primary: Primary, tmp_path: Path) -> AsyncIterator[Standby]:
    """A standby that cancels at once each query that delays replay."""
    async with connected(dsn_of(primary)) as connection:
        await connection.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        await connection.execute("CREATE TABLE figures ()")
    with Standby(tmp_path / "standby", primary, port=free_port()) as standby:
        yield standby
    standby.erase()


@pytest.fixture
def environment(primary: Primary, standby: Standby, valkey_url: str) -> Environment:
    """Variables of an API that writes to the server that takes writes and may read on both; the primary comes first."""
    hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
    url = f"postgresql://app:{primary.password}@/postgres?{hosts}"
    written = api_environment(f"{url}&target_session_attrs=read-write", valkey_url)
    return written | {"APP_DATABASE__REPLICA_URL": url}


@pytest.fixture
def settings(environment: Environment) -> ApiSettings:
    return load(ALL_SETTINGS, environment, elsewhere=READ_ELSEWHERE)


@pytest.fixture
async def several(settings: ApiSettings) -> AsyncIterator[Database]:
    async with open_database(settings.database, name="several") as database:
        yield database


async def who_answers(session: Session) -> Answered:
    is_standby, port = (await session.execute(WHO)).one()
    return is_standby, port


async def stale_read(database: Database) -> Answered:
    async with database.unit_of_work(stale=True) as session:
        return await who_answers(session)


async def stale_read_in_the_end(database: Database) -> Answered:
    """As above, once the API has noticed that the server behind its connection is gone."""

    async def read() -> Answered | None:
        with suppress(DatabaseUnavailable):
            return await stale_read(database)
        return None

    answered = await eventually(read, "somebody answers")
    assert answered is not None
    return answered


async def test_a_route_that_says_so_reads_on_the_standby(settings: ApiSettings, standby: Standby) -> None:
    app = create_app(settings)

    @app.get("/figures")
    async def figures(session: ReplicaSessionDep) -> Answered:
        return await who_answers(session)

    async with open_client(app) as client:
        response = await client.get("/figures")

    assert response.json() == [True, standby.port]


async def test_a_standby_says_how_far_it_is_behind(several: Database, primary: Primary, standby: Standby) -> None:
    async def behind() -> timedelta:
        found = await replication_lag(several)
        assert found.is_standby
        return found.behind or timedelta(0)

    async with connected(dsn_of(standby)) as watcher, connected(dsn_of(primary)) as writer:
        await writer.execute("CREATE TABLE seen ()")
        await eventually(lambda: watcher.fetchval("SELECT to_regclass('seen')"), "the table is there")
        assert not await behind()

        await watcher.execute("SELECT pg_wal_replay_pause()")
        await writer.execute("CREATE TABLE unseen ()")

        assert await eventually(behind, "it has received more than it shows") > timedelta(0)
        await watcher.execute("SELECT pg_wal_replay_resume()")
        assert await eventually(lambda: not_behind(behind), "it has replayed all")


async def not_behind(behind: Callable[[], Awaitable[timedelta]]) -> bool:
    return not await behind()


async def test_without_its_standby_the_primary_answers_a_stale_read(
    several: Database, primary: Primary, standby: Standby
) -> None:
    assert await stale_read(several) == (True, standby.port)

    standby.stop()

    assert await stale_read_in_the_end(several) == (False, primary.port)


async def test_stale_reads_go_on_when_their_standby_is_the_primary(
    several: Database, primary: Primary, standby: Standby
) -> None:
    assert await stale_read(several) == (True, standby.port)

    primary.lose()
    await asyncio.to_thread(standby.promote)

    assert await stale_read_in_the_end(several) == (False, standby.port)


async def test_a_stale_read_that_replay_cancels_is_an_outage(
    several: Database, primary: Primary, standby: Standby
) -> None:
    async def read_slowly() -> None:
        async with several.unit_of_work(stale=True) as session:
            await session.execute(text("SELECT pg_sleep(2) FROM (SELECT count(*) FROM figures)"))

    reading = asyncio.create_task(read_slowly())
    async with connected(dsn_of(standby)) as watcher, connected(dsn_of(primary)) as writer:
        running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        await eventually(lambda: watcher.fetchval(running), "the standby is asked")
        await writer.execute("TRUNCATE figures")
        with pytest.raises(DatabaseUnavailable) as refused:
            await reading

    cause = refused.value.__cause__
    assert isinstance(cause, DBAPIError)
    assert "conflict with recovery" in str(cause)
    assert getattr(cause.orig, "sqlstate", None) == "40001"
