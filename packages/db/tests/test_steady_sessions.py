"""A database or a role with other defaults than ours: `ALTER DATABASE … SET`, a schema named like the role.

PostgreSQL 18, 19.1.3: such settings hold for each new session, unless the client sends its own when it connects.
"""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import func, select, text

from app_db import Database, open_database
from app_db.hosts import STEADY, Hosts
from app_db.models import User
from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_db.types import new_id

ODD = {
    "timezone": "Australia/Lord_Howe",
    "search_path": "elsewhere",
    "default_transaction_isolation": "serializable",
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def odd(postgres_server_url: str, worker_id: str) -> AsyncIterator[Database]:
    """A migrated database whose sessions are odd, as the application opens it."""
    name = f"app_{worker_id}_odd_test"
    url = await databases.recreate(postgres_server_url, name, template=databases.TEMPLATE)
    settings = DatabaseSettings.model_validate({"url": url})
    connection = await asyncpg.connect(settings.dsn)
    await connection.execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.users (id int)")
    for setting, value in ODD.items():
        await connection.execute(f'ALTER DATABASE "{name}" SET {setting} = {value if "," in value else repr(value)}')
    await connection.close()
    async with open_database(settings, name="odd") as database:
        yield database


@pytest.mark.parametrize("engine", ["write", "read"])
async def test_a_session_is_as_ours_are(odd: Database, engine: str) -> None:
    async with odd.engines[engine].connect() as connection:
        found = {name: await connection.scalar(text(f"SHOW {name}")) for name in STEADY}

    assert found == {
        "timezone": "UTC",
        "search_path": "public",
        "default_transaction_isolation": "read committed",
        "standard_conforming_strings": "on",
    }


async def test_a_connection_past_the_pools_is_as_ours_are(odd: Database) -> None:
    hosts = Hosts(odd.settings.direct_dsn, connect_timeout=odd.settings.connect_timeout)
    connection = await hosts.connect(server_settings={"application_name": "listener"})

    found = await connection.fetchrow("SELECT current_setting('timezone'), current_setting('application_name')")

    await connection.close()
    assert tuple(found or ()) == ("UTC", "listener")


async def test_a_table_of_the_same_name_elsewhere_is_not_ours(odd: Database) -> None:
    async with odd.sessions.begin() as session:
        session.add(User(id=new_id(), email="a@example.test", email_canonical="a@example.test", password_hash="-"))

    async with odd.read_sessions() as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 1


async def test_a_day_has_twenty_four_hours_also_where_the_clock_changes(odd: Database) -> None:
    """On Lord Howe Island the clock went forward by half an hour on 2026-10-04, at 02:00."""
    statement = text("SELECT timestamptz '2026-10-03 12:00+00' + interval '1 day' = timestamptz '2026-10-04 12:00+00'")

    async with odd.read_sessions() as session:
        assert await session.scalar(statement)
