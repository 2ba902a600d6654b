"""What workers write of their crons for others, and jobs of crons besides their ticks."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from sqlalchemy import text
from structlog.testing import capture_logs

from app_db import Database
from app_db.jobs.crons import hold_cron, request_run
from app_db.testing.queries import assert_queries
from app_worker.command_line.arguments import parse
from app_worker.command_line.cron_commands import steer_crons
from app_worker.features.retention.crons import prune_sessions
from app_worker.schedule import Cron, enqueue_job_of, fire_due

from .conftest import Jobs, Note, are_waiting, eventually
from .test_schedule import ALONE, EXPRESSION, HOURLY, change_job, count_jobs, set_last_tick

NEXT = "SELECT next_ticks FROM job_crons WHERE name = 'test.hourly'"


async def request(database: Database, name: str = HOURLY.name) -> None:
    async with database.sessions.begin() as session:
        await request_run(session, name)


async def test_a_cron_is_described_from_its_second_look_on(jobs: Jobs, database: Database) -> None:
    for _ in range(2):
        await fire_due(database, (HOURLY,))

    assert await jobs.scalar("SELECT (expression, timezone, queue, kind)::text FROM job_crons") == (
        f'("{EXPRESSION}",UTC,default,test.note)'
    )
    ticks: list[datetime] = await jobs.scalar(NEXT)
    assert [later - earlier for earlier, later in pairwise(ticks)] == [timedelta(hours=1)] * 2


async def test_a_look_at_described_crons_is_one_statement(jobs: Jobs, database: Database) -> None:
    for _ in range(2):
        await fire_due(database, (HOURLY,))
    seen_at = await jobs.scalar("SELECT seen_at FROM job_crons")

    with assert_queries(database, max=2):  # the time, and the crons
        await fire_due(database, (HOURLY,))

    assert await jobs.scalar("SELECT seen_at FROM job_crons") == seen_at


async def test_a_cron_that_changes_is_described_anew_at_the_next_look(jobs: Jobs, database: Database) -> None:
    for _ in range(2):
        await fire_due(database, (HOURLY,))

    await fire_due(database, (Cron("test.hourly", "0 3 * * *", lambda: Note(text="late"), timezone="Europe/Berlin"),))

    assert (
        await jobs.scalar("SELECT expression || timezone || kind FROM job_crons") == "0 3 * * *Europe/Berlintest.note"
    )


async def test_a_tick_leaves_its_job_and_the_next_ticks_behind(jobs: Jobs, database: Database) -> None:
    await set_last_tick(database, hours_ago=2)

    await fire_due(database, (HOURLY,))

    assert await jobs.scalar("SELECT last_job_id FROM job_crons") == await jobs.scalar("SELECT id FROM jobs")
    assert await jobs.scalar("SELECT next_ticks[1] > now() AND cardinality(next_ticks) = 3 FROM job_crons") is True


async def test_a_cron_with_few_ticks_left_is_described_with_these(jobs: Jobs, database: Database) -> None:
    rare = Cron("test.hourly", "0 0 29 2 0", Note)
    for _ in range(2):
        await fire_due(database, (rare,))

    assert await jobs.scalar("SELECT cardinality(next_ticks) FROM job_crons") <= 3


async def test_a_run_that_an_operator_asked_for_is_one_job(
    jobs: Jobs, database: Database, other_database: Database
) -> None:
    for _ in range(2):
        await fire_due(database, (HOURLY,))
    await request(database)

    async with database.sessions.begin() as session:
        await session.execute(text("SELECT FROM job_crons FOR UPDATE"))
        firing = [asyncio.create_task(fire_due(one, (HOURLY,))) for one in (database, other_database)]
        await eventually(lambda: are_waiting(jobs, 2))
    await asyncio.gather(*firing)

    assert await count_jobs(jobs) == 1
    assert await jobs.scalar("SELECT run_requested_at IS NULL FROM job_crons") is True
    assert await jobs.scalar("SELECT last_job_id FROM job_crons") == await jobs.scalar("SELECT id FROM jobs")


async def test_a_run_that_is_asked_for_ends_a_snooze(jobs: Jobs, database: Database) -> None:
    """ "Run now" that waits for hours, because the job of the last tick does, is no run now."""
    await set_last_tick(database, hours_ago=2)
    for _ in range(2):
        await fire_due(database, (ALONE,))
    await change_job(database, "state = 'scheduled', claim_at = now() + interval '5 hours'")
    await request(database)

    await fire_due(database, (ALONE,))

    assert await count_jobs(jobs) == 1
    assert await jobs.scalar("SELECT claim_at <= now() FROM jobs") is True


async def test_a_run_that_is_asked_for_takes_no_tick_away(jobs: Jobs, database: Database) -> None:
    await set_last_tick(database, hours_ago=2)
    for _ in range(2):
        await fire_due(database, (HOURLY,))
    await request(database)
    await fire_due(database, (HOURLY,))
    await set_last_tick(database, hours_ago=2)

    await fire_due(database, (HOURLY,))

    assert await count_jobs(jobs) == 3


async def test_the_next_ticks_are_those_of_the_time_zone(jobs: Jobs, database: Database) -> None:
    for _ in range(2):
        await fire_due(database, (Cron("test.hourly", "0 3 * * *", Note, timezone="Asia/Tokyo"),))

    ticks: list[datetime] = await jobs.scalar(NEXT)
    assert [tick.astimezone(UTC).hour for tick in ticks] == [18, 18, 18]


async def test_a_run_whose_payload_fails_stays_requested_and_holds_up_no_other(jobs: Jobs, database: Database) -> None:
    def refuse() -> Note:
        raise RuntimeError

    crons = (Cron("test.failing", EXPRESSION, refuse), HOURLY)
    for _ in range(2):
        await fire_due(database, crons)
    for cron in crons:
        await request(database, cron.name)

    with capture_logs() as logs:
        await fire_due(database, crons)

    assert [(log["event"], log["cron"]) for log in logs] == [
        ("cron_failed", "test.failing"),
        ("cron_run_on_request", "test.hourly"),
    ]
    assert await jobs.scalar("SELECT array_agg(name) FROM job_crons WHERE run_requested_at IS NOT NULL") == [
        "test.failing"
    ]


async def test_a_cron_that_is_run_by_hand_waits_for_its_tick(
    jobs: Jobs, database: Database, other_database: Database
) -> None:
    """Each would wait for the other: one has the row of the cron, the other the key of its job."""
    for _ in range(2):
        await fire_due(database, (prune_sessions,))

    async with database.sessions.begin() as session:
        await hold_cron(session, prune_sessions.name)
        by_hand = asyncio.create_task(steer_crons(other_database, parse(["crons", "run", prune_sessions.name])))
        await eventually(lambda: are_waiting(jobs, 1))
        await asyncio.wait_for(enqueue_job_of(session, prune_sessions, None), 20)
    await by_hand

    assert await count_jobs(jobs) == 1
