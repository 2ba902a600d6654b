"""Cron: each tick becomes one job."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app_db import Database
from app_db.jobs.timetables import MOST_AT_ONCE
from app_db.settings import DatabaseSettings
from app_worker.schedule import CatchUp, Cron, fire_due, run_schedule
from app_worker.schedule_rows import LONGEST_SLEEP

from .conftest import Jobs, Note, are_waiting, eventually, until
from .proxy import Proxy, over

MINUTE = (datetime.now(UTC).minute + 30) % 60  # so no tick comes while a test runs
EXPRESSION = f"{MINUTE} * * * *"
HOURLY = Cron("test.hourly", EXPRESSION, Note)
CATCHING_UP = Cron("test.hourly", EXPRESSION, Note, catch_up=CatchUp.ALL)
SKIPPING = Cron("test.hourly", EXPRESSION, Note, catch_up=CatchUp.SKIP)
ALONE = Cron("test.hourly", EXPRESSION, Note, overlap=False)
NEWEST_TICK = f"date_bin('1 hour', now(), to_timestamp({60 * MINUTE}))"


async def set_last_tick(database: Database, *, hours_ago: int) -> None:
    """Set the last tick that became a job to `hours_ago` hours before the newest tick."""
    async with database.sessions.begin() as session:
        await session.execute(
            text(f"""
                INSERT INTO job_crons VALUES ('test.hourly', {NEWEST_TICK} - make_interval(hours => :hours))
                ON CONFLICT (name) DO UPDATE SET last_tick_at = excluded.last_tick_at
            """),
            {"hours": hours_ago},
        )


async def change_job(database: Database, change: str) -> None:
    async with database.sessions.begin() as session:
        await session.execute(text(f"UPDATE jobs SET {change}, created_at = now() - interval '1 hour'"))


async def count_jobs(jobs: Jobs) -> int:
    return int(await jobs.scalar("SELECT count(*) FROM jobs"))


async def hours_ago(jobs: Jobs) -> list[int]:
    """Return the ticks that became jobs, in the order of the jobs, as hours before the newest tick."""
    ticks = f"extract(epoch FROM {NEWEST_TICK} - run_at) / 3600 ORDER BY id"
    return [int(hours) for hours in await jobs.scalar(f"SELECT array_agg({ticks}) FROM jobs") or []]


async def test_a_tick_fires_once(jobs: Jobs, database: Database, other_database: Database) -> None:
    await set_last_tick(database, hours_ago=2)

    async with database.sessions.begin() as session:
        await session.execute(text("SELECT FROM job_crons WHERE name = 'test.hourly' FOR UPDATE"))
        firing = [asyncio.create_task(fire_due(one, (HOURLY,))) for one in (database, other_database)]
        await eventually(lambda: are_waiting(jobs, 2))
    await asyncio.gather(*firing)

    assert await count_jobs(jobs) == 1


async def test_ticks_that_were_missed_are_caught_up_by_one_job(jobs: Jobs, database: Database) -> None:
    await set_last_tick(database, hours_ago=50)

    await fire_due(database, (HOURLY,))
    await fire_due(database, (HOURLY,))

    assert await hours_ago(jobs) == [0]


async def test_each_tick_that_was_missed_becomes_a_job_where_it_is_asked_for(
    jobs: Jobs, database: Database, other_database: Database
) -> None:
    await set_last_tick(database, hours_ago=5)

    await asyncio.gather(*(fire_due(one, (CATCHING_UP,)) for one in (database, other_database) * 3))

    assert await hours_ago(jobs) == [4, 3, 2, 1, 0]


async def test_more_ticks_than_fit_in_one_transaction_follow_in_the_next(jobs: Jobs, database: Database) -> None:
    await set_last_tick(database, hours_ago=MOST_AT_ONCE + 20)

    first_idle = await fire_due(database, (CATCHING_UP,))
    first = await count_jobs(jobs)
    second_idle = await fire_due(database, (CATCHING_UP,))

    assert (first, first_idle) == (MOST_AT_ONCE, timedelta(0))
    assert await hours_ago(jobs) == list(reversed(range(MOST_AT_ONCE + 20)))
    assert second_idle > timedelta(0)


async def test_a_cron_that_comes_back_after_months_fires_the_ticks_of_a_week(jobs: Jobs, database: Database) -> None:
    await set_last_tick(database, hours_ago=2000)

    with capture_logs() as logs:
        while await fire_due(database, (CATCHING_UP,)) == timedelta(0):
            pass

    assert await hours_ago(jobs) == list(reversed(range(7 * 24)))
    assert [log["event"] for log in logs] == ["cron_ticks_passed_over", "cron_fired", "cron_fired"]


async def test_a_tick_that_was_missed_by_more_than_a_minute_is_passed_over_where_it_is_asked_for(
    jobs: Jobs, database: Database
) -> None:
    await set_last_tick(database, hours_ago=2)

    with capture_logs() as logs:
        await fire_due(database, (SKIPPING,))
        await fire_due(database, (SKIPPING,))

    assert await count_jobs(jobs) == 0
    assert [log["event"] for log in logs] == ["cron_ticks_passed_over", "cron_fired"]


async def test_no_tick_fires_while_the_job_of_an_earlier_one_is_open(jobs: Jobs, database: Database) -> None:
    await set_last_tick(database, hours_ago=2)
    await fire_due(database, (ALONE,))

    await set_last_tick(database, hours_ago=2)
    await fire_due(database, (ALONE,))

    assert await count_jobs(jobs) == 1
    assert await jobs.scalar(f"SELECT last_tick_at = {NEWEST_TICK} FROM job_crons") is True


async def test_a_tick_ends_the_back_off_of_the_job_that_it_finds(jobs: Jobs, database: Database) -> None:
    """A job that backs off for a day would swallow the ticks of that day, while each looks done."""
    await set_last_tick(database, hours_ago=2)
    await fire_due(database, (ALONE,))
    await change_job(database, "state = 'retryable', attempt = 12, claim_at = now() + interval '5 hours'")

    await set_last_tick(database, hours_ago=2)
    with capture_logs() as logs:
        await fire_due(database, (ALONE,))

    assert await count_jobs(jobs) == 1
    assert await jobs.scalar("SELECT claim_at <= now() FROM jobs") is True
    about = {"cron": "test.hourly", "state": "retryable", "attempt": 12}
    assert about.items() <= next(log for log in logs if log["event"] == "cron_job_still_open").items()


async def test_a_tick_leaves_a_job_that_snoozes_alone(jobs: Jobs, database: Database) -> None:
    await set_last_tick(database, hours_ago=2)
    await fire_due(database, (ALONE,))
    await change_job(database, "state = 'scheduled', claim_at = now() + interval '5 hours'")

    await set_last_tick(database, hours_ago=2)
    await fire_due(database, (ALONE,))

    assert await jobs.scalar("SELECT claim_at > now() + interval '4 hours' FROM jobs") is True


async def test_a_job_that_waits_follows_its_cron_into_another_queue(jobs: Jobs, database: Database) -> None:
    """As after an upgrade, where the old queue may be paused."""
    await set_last_tick(database, hours_ago=2)
    await fire_due(database, (ALONE,))

    await set_last_tick(database, hours_ago=2)
    await fire_due(database, (Cron("test.hourly", EXPRESSION, Note, overlap=False, queue="other"),))

    assert await jobs.scalar("SELECT array_agg(queue) FROM jobs") == ["other"]


async def test_a_tick_fires_when_the_job_of_the_earlier_one_has_ended(jobs: Jobs, database: Database) -> None:
    await set_last_tick(database, hours_ago=2)
    await fire_due(database, (ALONE,))
    async with database.sessions.begin() as session:
        await session.execute(text("UPDATE jobs SET state = 'completed', claim_at = NULL, finished_at = now()"))

    await set_last_tick(database, hours_ago=2)
    await fire_due(database, (ALONE,))

    assert await count_jobs(jobs) == 2


async def test_jobs_of_a_cron_may_overlap_unless_it_says_otherwise(jobs: Jobs, database: Database) -> None:
    for _ in range(2):
        await set_last_tick(database, hours_ago=2)
        await fire_due(database, (HOURLY,))

    assert await count_jobs(jobs) == 2


async def test_a_cron_says_in_which_queue_its_jobs_wait(jobs: Jobs, database: Database) -> None:
    await set_last_tick(database, hours_ago=2)

    await fire_due(database, (Cron("test.hourly", EXPRESSION, Note, queue="slow", priority=7),))

    assert await jobs.scalar("SELECT queue || priority FROM jobs") == "slow7"


async def test_a_cron_that_was_never_seen_does_not_fire_before_its_next_tick(jobs: Jobs, database: Database) -> None:
    await fire_due(database, (HOURLY,))
    await fire_due(database, (HOURLY,))

    assert await count_jobs(jobs) == 0


async def test_a_cron_that_fails_keeps_its_tick_and_does_not_hold_up_the_others(jobs: Jobs, database: Database) -> None:
    def refuse() -> Note:
        raise RuntimeError

    failing = Cron("test.failing", EXPRESSION, refuse)
    await fire_due(database, (failing, HOURLY))
    async with database.sessions.begin() as session:
        await session.execute(text("UPDATE job_crons SET last_tick_at = now() - interval '2 hours'"))

    with capture_logs() as logs:
        idle = await fire_due(database, (failing, HOURLY))

    assert [(log["event"], log["cron"]) for log in logs] == [
        ("cron_failed", "test.failing"),
        ("cron_fired", "test.hourly"),
    ]
    assert await jobs.scalar(
        "SELECT array_agg(name) FROM job_crons WHERE last_tick_at < now() - interval '1 hour'"
    ) == ["test.failing"]
    assert timedelta(0) < idle <= LONGEST_SLEEP


async def test_a_cron_whose_last_tick_lies_ahead_goes_on_from_now(jobs: Jobs, database: Database) -> None:
    """After the server's clock was fast for a moment, the cron stood still until the clock reached that time again."""
    await set_last_tick(database, hours_ago=-24 * 365)
    heard: list[str] = []

    with capture_logs() as logs:
        await fire_due(database, (HOURLY,), went_back=lambda: heard.append("back"))
        await fire_due(database, (HOURLY,), went_back=lambda: heard.append("back"))

    (warning,) = [log for log in logs if log["event"] == "database_clock_went_back"]
    assert warning["crons"] == ["test.hourly"]
    assert warning["seconds"] > 300 * 86400
    assert heard == ["back"]
    assert await count_jobs(jobs) == 0
    assert await jobs.scalar("SELECT last_tick_at <= now() FROM job_crons") is True


async def test_there_is_nothing_to_do_before_the_next_tick(database: Database) -> None:
    every_second = Cron("test.seconds", "* * * * * *", Note)

    assert timedelta(0) < await fire_due(database, (HOURLY, every_second)) <= timedelta(seconds=1)
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


async def test_crons_that_share_a_name_are_refused(database: Database) -> None:
    with pytest.raises(ValueError, match=r"share a name: test\.hourly, test\.hourly$"):
        await run_schedule(database, (HOURLY, CATCHING_UP))
