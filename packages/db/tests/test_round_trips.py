"""A round trip to Postgres costs nothing in a test, and a fifth of a second from another continent."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import func, literal, select, text
from sqlalchemy.exc import DBAPIError

from app_db import Database, open_database
from app_db.models import User
from app_db.settings import DatabaseSettings
from app_runtime.testing.network import Network

CONNECTING = 3
"""The start, and two of SCRAM (RFC 5802, 3)."""
NEW = 2
"""For a statement that was not prepared before."""
ASKED = text(
    "SELECT current_setting('server_version_num')::int, current_schema(), current_setting('transaction_isolation')"
)


@pytest_asyncio.fixture(loop_scope="session")
async def network(database: Database) -> AsyncIterator[Network]:
    url = database.settings.sqlalchemy_url
    async with Network(url.host or "", url.port or 5432).open() as network:
        yield network


@pytest_asyncio.fixture(loop_scope="session")
async def distant(database: Database, network: Network) -> AsyncIterator[Database]:
    url = database.settings.sqlalchemy_url.set(host="127.0.0.1", port=network.port)
    settings = DatabaseSettings.model_validate({"url": url.render_as_string(hide_password=False)})
    async with open_database(settings, name="test") as opened:
        yield opened


@pytest.mark.parametrize("engine", ["write", "read"])
async def test_a_new_engine_asks_its_server_nothing_and_knows_it(
    distant: Database, network: Network, engine: str
) -> None:
    async with distant.engines[engine].execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        number, schema, isolation = (await connection.execute(ASKED)).one()

    assert network.round_trips == CONNECTING + NEW
    dialect = distant.engines[engine].sync_engine.dialect
    assert dialect.server_version_info == divmod(number, 10_000)
    assert (dialect.default_schema_name, dialect.default_isolation_level) == (schema, isolation.upper())


async def test_a_query_alone_that_fails_leaves_a_connection_for_transactions(database: Database) -> None:
    """It ran in autocommit, in which a rollback does nothing."""
    one = database.settings.model_copy(update={"pool_size": 1})
    async with open_database(one, name="test") as narrow:
        with pytest.raises(DBAPIError):
            async with narrow.unit_of_work() as session:
                await session.read_alone(select(literal(1) / literal(0)), {})
        async with narrow.sessions() as session:
            session.add(User(email="ada@example.test", email_canonical="ada@example.test"))
            await session.flush()
            await session.rollback()
        async with narrow.unit_of_work() as session:
            assert (await session.scalars(select(User.id))).all() == []


async def test_a_query_alone_costs_one_round_trip(distant: Database, network: Network) -> None:
    trips = []
    for _ in range(2):
        before = network.round_trips
        async with distant.unit_of_work() as session:
            assert await session.read_alone(select(func.now()), {}) is not None
            trips.append(network.round_trips - before)

    assert trips == [CONNECTING + NEW, 1]
