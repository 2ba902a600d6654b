"""Cron: each tick becomes one job."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import text
from structlog.testing import capture_logs

from app_db import Database, open_database
from app_db.settings import DatabaseSettings
from app_worker.schedule import CRONS, LONGEST_SLEEP, Cron, fire_due, run_schedule

from .conftest import Jobs, Note, eventually, until
from .proxy import Proxy, over

HOURLY = Cron("test.hourly", "0 * * * *", Note)


async def set_last_tick(database: Database, *, hours_ago: int) -> None:
    async with database.sessions.begin() as session:
        await session.execute(
            text("INSERT INTO job_crons VALUES ('test.hourly', now() - make_interval(hours => :hours))"),
            {"hours": hours_ago},
        )


async def count_jobs(jobs: Jobs) -> int:
    return int(await jobs.scalar("SELECT count(*) FROM jobs"))


@pytest_asyncio.fixture(loop_scope="session")
async def other_database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """The same database, as another worker process opens it."""
    async with open_database(database_settings, name="other") as database:
        yield database


async def test_a_tick_fires_once(jobs: Jobs, database: Database, other_database: Database) -> None:
    await set_last_tick(database, hours_ago=2)

    await asyncio.gather(*(fire_due(one, (HOURLY,)) for one in (database, other_database) * 5))

    assert await count_jobs(jobs) == 1


async def test_ticks_that_were_missed_are_caught_up_by_one_job(jobs: Jobs, database: Database) -> None:
    await set_last_tick(database, hours_ago=50)

    await fire_due(database, (HOURLY,))
    await fire_due(database, (HOURLY,))

    assert await count_jobs(jobs) == 1


async def test_a_cron_that_was_never_seen_does_not_fire_before_its_next_tick(jobs: Jobs, database: Database) -> None:
    await fire_due(database, (HOURLY,))
    await fire_due(database, (HOURLY,))

    assert await count_jobs(jobs) == 0
    assert await jobs.scalar("SELECT last_tick_at = date_trunc('hour', now()) FROM job_crons") is True


async def test_a_tick_whose_job_cannot_be_enqueued_is_still_due(jobs: Jobs, database: Database) -> None:
    def refuse() -> Note:
        raise RuntimeError

    await set_last_tick(database, hours_ago=2)

    with pytest.raises(RuntimeError):
        await fire_due(database, (Cron("test.hourly", "0 * * * *", refuse),))

    await fire_due(database, (HOURLY,))
    assert await count_jobs(jobs) == 1


async def test_there_is_nothing_to_do_before_the_next_tick(database: Database) -> None:
    assert timedelta(0) < await fire_due(database, (HOURLY,)) <= timedelta(hours=1)
    assert await fire_due(database, ()) == LONGEST_SLEEP


async def test_the_schedule_fires_what_is_due(jobs: Jobs, database: Database) -> None:
    await set_last_tick(database, hours_ago=2)

    task = asyncio.create_task(run_schedule(database, (HOURLY,)))
    await eventually(lambda: count_jobs(jobs))
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()


async def test_the_schedule_survives_an_outage(database_settings: DatabaseSettings) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        await proxy.cut()

        with capture_logs() as logs:
            task = asyncio.create_task(run_schedule(database, (HOURLY,)))
            await until(lambda: logs)

        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
    assert logs[0]["event"] == "cron_failed"


def test_every_cron_has_ticks_and_a_name_of_its_own() -> None:
    now = datetime(2026, 11, 23, 5, 34, tzinfo=UTC)

    assert all(cron.last_tick(now) <= now < cron.next_tick(now) for cron in CRONS)
    assert len({cron.name for cron in CRONS}) == len(CRONS)


def at(text_: str) -> datetime:
    return datetime.fromisoformat(text_)


def test_the_last_tick_may_be_now() -> None:
    assert HOURLY.last_tick(at("2026-11-23T05:00:00Z")) == at("2026-11-23T05:00:00Z")
    assert HOURLY.last_tick(at("2026-11-23T04:59:59.999999Z")) == at("2026-11-23T04:00:00Z")


def test_the_next_tick_is_after_now() -> None:
    assert HOURLY.next_tick(at("2026-11-23T05:00:00Z")) == at("2026-11-23T06:00:00Z")


def berlin(expression: str) -> Cron:
    return Cron("test.berlin", expression, Note, timezone="Europe/Berlin")


# On 29 March 2026 at 01:00 UTC the clocks of Berlin go from 02:00 to 03:00, on 25 October from 03:00 back to 02:00.


def test_a_time_that_a_spring_night_does_not_have_ticks_when_the_clock_has_jumped() -> None:
    nightly = berlin("30 2 * * *")

    assert nightly.next_tick(at("2026-03-28T12:00Z")) == at("2026-03-29T01:00Z")
    assert nightly.last_tick(at("2026-03-29T12:00Z")) == at("2026-03-29T01:00Z")
    assert nightly.next_tick(at("2026-03-29T12:00Z")) == at("2026-03-30T00:30Z")


def test_a_time_that_an_autumn_night_has_twice_ticks_once() -> None:
    nightly = berlin("30 2 * * *")

    assert nightly.next_tick(at("2026-10-24T12:00Z")) == at("2026-10-25T00:30Z")
    assert nightly.next_tick(at("2026-10-25T00:30Z")) == at("2026-10-26T01:30Z")
    assert nightly.last_tick(at("2026-10-25T12:00Z")) == at("2026-10-25T00:30Z")


@pytest.mark.parametrize("night", ["2026-03-28T20:00Z", "2026-10-24T20:00Z"])
@pytest.mark.parametrize("expression", ["*/10 * * * *", "15 * * * *", "30 2 * * *", "0 3 * * *", "5 1-3 * * *"])
def test_the_last_tick_is_the_newest_of_the_next_ticks_all_through_such_a_night(expression: str, night: str) -> None:
    cron = berlin(expression)
    ticks = [cron.next_tick(at(night) - timedelta(days=2))]
    while ticks[-1] < at(night) + timedelta(hours=12):
        ticks.append(cron.next_tick(ticks[-1]))

    for minutes in range(0, 720, 5):
        now = at(night) + timedelta(minutes=minutes, seconds=7)
        assert cron.last_tick(now) == max(tick for tick in ticks if tick <= now)


def test_an_interval_goes_on_through_the_hour_that_is_repeated() -> None:
    cron = berlin("*/30 * * * *")
    ticks = [at("2026-10-25T00:00Z")]

    while ticks[-1] < at("2026-10-25T02:00Z"):
        ticks.append(cron.next_tick(ticks[-1]))

    assert [tick.strftime("%H:%M") for tick in ticks] == ["00:00", "00:30", "01:00", "01:30", "02:00"]
