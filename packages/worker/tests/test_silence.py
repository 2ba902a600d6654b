"""A worker whose connections to Postgres fall silent: no FIN and no RST tell it, and new connections work.

Its statements may take as long as its longest handler, so no time-out of the driver ends a vain wait soon enough.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import text

from app_db import Database, open_database
from app_db.models import JobState
from app_db.settings import DatabaseSettings
from app_runtime.testing.network import Network
from app_worker.context import JobContext
from app_worker.registry import Mode, handles
from app_worker.schedule import fire_due

from .conftest import PATIENCE, Jobs, MakeRunner, Note

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture(loop_scope="session")
async def network(database: Database) -> AsyncIterator[Network]:
    url = database.settings.sqlalchemy_url
    async with Network(url.host or "", url.port or 5432).open() as network:
        yield network


@pytest_asyncio.fixture(loop_scope="session")
async def over_network(network: Network, database: Database) -> AsyncIterator[Database]:
    """The database as a worker opens it, with one connection that has been used a moment ago."""
    url = database.settings.sqlalchemy_url.set(host="127.0.0.1", port=network.port)
    limits = {"command_timeout": timedelta(hours=1), "statement_timeout": timedelta(hours=1), "request_timeout": 2}
    never_asked = {"pool_size": 1, "ping_after_idle": timedelta(hours=1)}
    given = {"url": url.render_as_string(hide_password=False), **limits, **never_asked}
    async with open_database(DatabaseSettings.model_validate(given), name="worker") as opened:
        async with opened.sessions.begin() as session:
            await session.execute(text("SELECT 1"))
        yield opened


@pytest.mark.parametrize("mode", Mode)
async def test_a_start_on_a_silent_connection_is_given_back(
    jobs: Jobs, make_runner: MakeRunner, network: Network, over_network: Database, mode: Mode
) -> None:
    @handles(Note, mode=mode, max_attempts=1)
    async def note(job: JobContext, payload: Note) -> None:
        """Do nothing."""

    runner = make_runner(note, database=over_network)
    runner.expected_mode = mode
    delivery = await jobs.deliver()
    network.forget()

    async with asyncio.timeout(PATIENCE):
        await runner.run(delivery)
    lost = await jobs.get(delivery)
    async with asyncio.timeout(PATIENCE):
        await runner.run(await jobs.dispatch(delivery.id))

    assert (lost.state, lost.attempt) == (JobState.AVAILABLE, 0)
    done = await jobs.get(delivery)
    assert (done.state, done.attempt) == (JobState.COMPLETED, 1)


async def test_an_outcome_is_recorded_although_its_connection_fell_silent(
    jobs: Jobs, make_runner: MakeRunner, network: Network, over_network: Database
) -> None:
    """Otherwise the lease would end meanwhile, and the work would be done again."""

    @handles(Note, mode=Mode.LEASE)
    async def note(job: JobContext, payload: Note) -> None:
        network.forget()

    delivery = await jobs.deliver()

    async with asyncio.timeout(PATIENCE):
        await make_runner(note, database=over_network).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.COMPLETED


async def test_crons_do_not_wait_for_a_silent_connection(network: Network, over_network: Database) -> None:
    network.forget()

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(TimeoutError):
            await fire_due(over_network, ())
        assert await fire_due(over_network, ())
