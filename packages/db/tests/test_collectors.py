"""The metrics of the database that every process exports."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app_db import Database
from app_db.telemetry.collectors import describe_database

from .conftest import Until


@pytest.fixture
def registry(database: Database) -> CollectorRegistry:
    registry = CollectorRegistry()
    describe_database(registry, database, kinds=["mail"])
    return registry


def test_jobs_that_nobody_has_enqueued_yet_are_at_zero(registry: CollectorRegistry) -> None:
    assert registry.get_sample_value("app_jobs_enqueued_total", {"kind": "mail"}) == 0


def test_what_the_process_has_enqueued_is_read_at_each_scrape(registry: CollectorRegistry, database: Database) -> None:
    database.enqueued["of.another.package"] += 2

    assert registry.get_sample_value("app_jobs_enqueued_total", {"kind": "of.another.package"}) == 2


@pytest.mark.parametrize("kind", ["damaged", "refused", "silent", "unreachable"])
def test_each_way_in_which_the_database_fails_begins_at_zero(
    registry: CollectorRegistry, database: Database, kind: str
) -> None:
    database.failures.clear()

    assert registry.get_sample_value("app_db_failures_total", {"kind": kind}) == 0


async def test_files_of_the_server_that_are_broken_are_counted(registry: CollectorRegistry, database: Database) -> None:
    database.failures.clear()
    broken = text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XX001'; END $$")
    async with database.sessions() as session:
        with pytest.raises(DBAPIError):
            await session.execute(broken)

    assert registry.get_sample_value("app_db_failures_total", {"kind": "damaged"}) == 1


async def test_a_connection_that_is_in_use_is_shown(registry: CollectorRegistry, database: Database) -> None:
    async with database.sessions() as session:
        await session.execute(text("SELECT 1"))

        assert registry.get_sample_value("app_db_pool_in_use", {"pool": "write"}) == 1
    assert registry.get_sample_value("app_db_pool_in_use", {"pool": "write"}) == 0


async def test_who_waits_for_a_connection_is_counted(
    registry: CollectorRegistry, database: Database, until: Until
) -> None:
    def value(name: str) -> float:
        return registry.get_sample_value(f"app_db_pool_{name}", {"pool": "read"}) or 0

    async def is_one_too_many() -> bool:
        return value("waiting") == 1

    before = value("waits_total"), value("wait_seconds_total")
    async with AsyncExitStack() as taken:
        for _ in range(database.settings.read_pool_size):
            _connection = await taken.enter_async_context(database.read_engine.connect())
        late = asyncio.create_task(database.read_engine.connect().start())
        await until(is_one_too_many)
    await (await late).close()

    assert (value("size"), value("waiting")) == (database.settings.read_pool_size, 0)
    assert value("waits_total") == before[0] + 1
    assert value("wait_seconds_total") > before[1]


def test_the_sizes_of_shared_queries_are_a_histogram(registry: CollectorRegistry, database: Database) -> None:
    database.gathered.clear()
    database.gathered.update({1: 5, 3: 2, 200: 1})

    values = {limit: registry.get_sample_value("app_db_gathered_calls_bucket", {"le": limit}) for limit in ("1", "4")}
    total = [registry.get_sample_value(f"app_db_gathered_calls_{name}") for name in ("count", "sum")]

    assert values == {"1": 5, "4": 7}
    assert total == [8, 211]
