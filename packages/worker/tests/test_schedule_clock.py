"""The schedule notices that Postgres's clock went back, also where no tick was written meanwhile."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from app_db import Database
from app_db.types import utcnow
from app_worker.features.retention.crons import prune_jobs
from app_worker.schedule import LastReading, fire_due

from .conftest import Jobs

BACK = timedelta(minutes=5)


@pytest.fixture
def last_reading() -> LastReading:
    return LastReading()


async def test_a_clock_that_went_back_is_noticed_although_nothing_ticked(
    jobs: Jobs, database: Database, last_reading: LastReading
) -> None:
    """Jobs that were written meanwhile would be late by as much, and leases and links would live longer."""
    job_id = await jobs.enqueue()
    heard: list[str] = []

    async def look() -> None:
        await fire_due(database, (), last_reading=last_reading, went_back=lambda: heard.append("back"))

    await look()
    await look()
    assert heard == []
    assert last_reading.time is not None
    last_reading.time += BACK  # as it would be if the clock had been ahead until now
    async with database.sessions.begin() as session:
        await session.execute(text("UPDATE jobs SET claim_at = now() + :back"), {"back": BACK})
    with capture_logs() as logs:
        await look()
        await look()

    assert heard == ["back"]
    (warning,) = [log for log in logs if log["event"] == "database_clock_went_back"]
    assert warning["crons"] == []
    assert BACK <= timedelta(seconds=warning["seconds"] + 1) <= BACK + timedelta(seconds=10)
    assert warning["rows"]["jobs"] == 1
    assert await jobs.scalar(f"SELECT claim_at <= now() FROM jobs WHERE id = '{job_id}'") is True


async def test_a_repair_that_fails_is_tried_again(jobs: Jobs, database: Database, last_reading: LastReading) -> None:
    heard: list[str] = []

    async def look() -> None:
        await fire_due(database, (), last_reading=last_reading, went_back=lambda: heard.append("back"))

    await look()
    assert last_reading.time is not None
    last_reading.time += BACK
    async with crons_refuse_changes(database):
        with pytest.raises(DBAPIError, match="not now"):
            await look()
    await look()
    await look()

    assert heard == ["back"]


@asynccontextmanager
async def crons_refuse_changes(database: Database) -> AsyncIterator[None]:
    """Let every UPDATE of crons fail in this block."""
    async with database.sessions.begin() as session:
        await session.execute(
            text("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not now'; END$$")
        )
        await session.execute(
            text("CREATE TRIGGER refuse BEFORE UPDATE ON job_crons FOR EACH STATEMENT EXECUTE FUNCTION refuse()")
        )
    try:
        yield
    finally:
        async with database.sessions.begin() as session:
            await session.execute(text("DROP FUNCTION refuse CASCADE"))


def test_a_long_wait_for_an_answer_is_no_clock_that_went_back(last_reading: LastReading) -> None:
    now = utcnow()
    asked_at = monotonic() - 3600  # an hour ago, and only now the answer is read

    assert last_reading.expected(now, asked_at=asked_at) == now
    last_reading.store(now, read_at=monotonic())
    assert last_reading.expected(now, asked_at=asked_at) < now


def test_a_clock_that_was_ahead_by_ten_minutes_has_let_retention_tick() -> None:
    """So where no worker ran when it went back, the tick tells; what goes back by less is late by no more than that."""
    midnight = utcnow().replace(hour=0, minute=0, second=0, microsecond=0)
    times = [midnight + timedelta(minutes=number, microseconds=1) for number in range(24 * 60)]

    assert max(prune_jobs.next_tick(time) - time for time in times) <= timedelta(minutes=10)
