"""Crons in the table: each tick becomes one job, as for crons in code, and none while the code has their name."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text, update
from structlog.testing import capture_logs

from app_db import Database
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs import schedules
from app_db.jobs.crons import cron_states
from app_db.jobs.schedule_ticks import Due, ScheduleLook
from app_db.jobs.schedule_values import ScheduleValues
from app_db.jobs.timetables import MOST_AT_ONCE, CatchUp
from app_db.models import JobSchedule
from app_db.testing.queries import assert_queries
from app_worker.schedule import Cron, fire_due
from app_worker.schedule_rows import LONGEST_SLEEP, PAYLOADS, fire_rows

from .conftest import Jobs, Note, are_waiting, eventually
from .test_schedule import EXPRESSION, HOURLY, NEWEST_TICK, count_jobs, hours_ago

NAME = "reports.hourly"


async def add(database: Database, name: str = NAME, **values: Any) -> None:
    typed = ScheduleValues(**{"kind": PruneSessions.kind, "expression": EXPRESSION, **values})
    async with database.sessions.begin() as session:
        await schedules.add_schedule(session, name, typed, by="shell", payload_classes=PAYLOADS)


async def miss(database: Database, hours: int, **values: Any) -> None:
    """Let the last tick of all rows be so many hours before the newest one."""
    last = text(f"{NEWEST_TICK} - make_interval(hours => {hours})")
    async with database.sessions.begin() as session:
        await session.execute(
            update(JobSchedule).values({"last_tick_at": last, "next_tick_at": text("now()"), **values})
        )


async def problem(jobs: Jobs) -> Any:
    return await jobs.scalar("SELECT problem FROM job_schedules")


async def test_the_tick_of_a_row_becomes_a_job_with_the_tick_as_its_time(jobs: Jobs, database: Database) -> None:
    await add(database, queue="slow", priority=7)
    await miss(database, 1)

    idle = await fire_due(database, ())
    await fire_due(database, ())

    assert await hours_ago(jobs) == [0]
    assert await jobs.scalar("SELECT kind || queue || priority FROM jobs") == "sessions.pruneslow7"
    row = "last_job_id = (SELECT id FROM jobs) AND next_ticks[1] = next_tick_at AND next_tick_at > now()"
    assert await jobs.scalar(f"SELECT {row} FROM job_schedules") is True
    assert timedelta(0) < idle <= LONGEST_SLEEP


async def test_a_tick_of_a_row_fires_once(jobs: Jobs, database: Database, other_database: Database) -> None:
    await add(database)
    await miss(database, 1)

    async with database.sessions.begin() as session:
        await session.execute(text("SELECT FROM job_schedules FOR UPDATE"))
        firing = [asyncio.create_task(fire_due(one, ())) for one in (database, other_database)]
        await eventually(lambda: are_waiting(jobs, 2))
    await asyncio.gather(*firing)

    assert await count_jobs(jobs) == 1


async def test_a_look_costs_no_statement_more_because_of_the_table(jobs: Jobs, database: Database) -> None:
    await add(database)
    for _ in range(2):
        await fire_due(database, (HOURLY,))

    with assert_queries(database, max=2):  # the time with the rows, and the crons in code
        await fire_due(database, (HOURLY,))


async def test_the_schedule_wakes_for_the_next_tick_of_a_row(database: Database) -> None:
    await add(database, expression="* * * * * *")

    assert await fire_due(database, ()) <= timedelta(seconds=1)


@pytest.mark.parametrize(("catch_up", "fired"), [(CatchUp.ONE, [0]), (CatchUp.ALL, [3, 2, 1, 0]), (CatchUp.SKIP, [])])
async def test_ticks_that_were_missed_are_caught_up_as_the_row_says(
    jobs: Jobs, database: Database, catch_up: CatchUp, fired: list[int]
) -> None:
    await add(database, catch_up=catch_up)
    await miss(database, 4)

    await fire_due(database, ())
    await fire_due(database, ())

    assert await hours_ago(jobs) == fired


async def test_more_ticks_of_a_row_than_fit_in_one_transaction_follow_in_the_next(
    jobs: Jobs, database: Database
) -> None:
    await add(database, catch_up=CatchUp.ALL)
    await miss(database, MOST_AT_ONCE + 20)

    idle = await fire_due(database, ())
    first = await count_jobs(jobs)
    await fire_due(database, ())

    assert (first, idle) == (MOST_AT_ONCE, timedelta(0))
    assert await hours_ago(jobs) == list(reversed(range(MOST_AT_ONCE + 20)))


async def test_a_tick_of_a_row_enqueues_nothing_while_a_job_that_must_not_overlap_is_open(
    jobs: Jobs, database: Database
) -> None:
    await add(database, overlap=False)
    await miss(database, 1)
    await fire_due(database, ())
    await jobs.execute("UPDATE jobs SET created_at = now() - interval '1 hour'")
    await miss(database, 1)

    with capture_logs() as logs:
        await fire_due(database, ())

    assert await count_jobs(jobs) == 1
    assert [log["event"] for log in logs] == ["cron_job_still_open", "cron_fired"]


async def test_a_row_without_its_kind_says_so_and_holds_up_no_other(jobs: Jobs, database: Database) -> None:
    await add(database)
    await miss(database, 1, kind="reports.of_tomorrow")
    await add(database, "other")
    await jobs.execute("UPDATE job_schedules SET last_tick_at = now() - interval '2 hours', next_tick_at = now()")

    with capture_logs() as logs:
        idle = [await fire_due(database, ()) for _ in range(2)]

    assert await jobs.scalar("SELECT problem FROM job_schedules WHERE name = 'reports.hourly'") == (
        "there is no kind 'reports.of_tomorrow' in this release"
    )
    assert [(log["event"], log["cron"]) for log in logs] == [("cron_failed", NAME), ("cron_fired", "other")]
    assert max(idle) <= LONGEST_SLEEP
    assert await count_jobs(jobs) == 1


async def test_a_release_that_has_the_kind_fires_the_tick_that_another_could_not(
    jobs: Jobs, database: Database
) -> None:
    await add(database)
    await miss(database, 3, kind="reports.of_tomorrow")
    await fire_due(database, ())
    await jobs.execute("UPDATE job_schedules SET kind = 'sessions.prune'")

    await fire_due(database, ())

    assert await hours_ago(jobs) == [0]
    assert await problem(jobs) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("payload = '{\"more\": 1}'", "cannot be read by version 1"),
        ("payload_version = 2", "deploy the newer worker"),
        ("timezone = 'Europe/Atlantis'", "there is no time zone 'Europe/Atlantis'"),
        ("expression = '61 * * * *'", "Bad minute"),
    ],
)
async def test_a_row_that_a_release_does_not_understand_says_why(
    jobs: Jobs, database: Database, change: str, why: str
) -> None:
    await add(database)
    await miss(database, 1)
    await jobs.execute(f"UPDATE job_schedules SET {change}")

    await fire_due(database, ())

    assert why in await problem(jobs)
    assert await count_jobs(jobs) == 0


async def test_a_row_that_fails_for_another_reason_keeps_its_tick(jobs: Jobs, database: Database) -> None:
    await add(database)
    await add(database, "other")
    await miss(database, 1)
    await jobs.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN IF NEW.name = 'other' THEN RETURN NEW; END IF; RAISE 'refused'; END $$
    """)
    await jobs.execute("CREATE TRIGGER refuse BEFORE UPDATE ON job_schedules FOR EACH ROW EXECUTE FUNCTION refuse()")
    try:
        with capture_logs() as logs:
            await fire_due(database, ())
    finally:
        await jobs.execute("DROP FUNCTION refuse() CASCADE")

    assert sorted((log["event"], log["cron"]) for log in logs) == [("cron_failed", NAME), ("cron_fired", "other")]
    await fire_due(database, ())
    assert await count_jobs(jobs) == 2


async def test_a_row_whose_name_a_cron_in_code_gets_does_not_fire(jobs: Jobs, database: Database) -> None:
    await add(database)
    await miss(database, 1)
    code = Cron(NAME, EXPRESSION, Note)
    await fire_due(database, (code,))
    await jobs.execute("DELETE FROM jobs")
    await miss(database, 1)
    await jobs.execute("UPDATE job_crons SET last_tick_at = (SELECT last_tick_at FROM job_schedules)")

    with capture_logs() as logs:
        await fire_due(database, (code,))

    assert await jobs.scalar("SELECT array_agg(kind) FROM jobs") == ["test.note"]
    assert {"event": "cron_shadowed", "cron": NAME, "log_level": "warning"} in logs


async def test_a_worker_without_the_code_does_not_fire_the_row_of_that_name_either(
    jobs: Jobs, database: Database
) -> None:
    """As in a deployment, where workers of two releases run."""
    await add(database)
    await miss(database, 1)
    async with database.sessions.begin() as session:
        await cron_states(session, [NAME])

    await fire_due(database, ())

    assert await count_jobs(jobs) == 0


async def test_a_row_whose_last_tick_lies_ahead_goes_on_from_now(jobs: Jobs, database: Database) -> None:
    await add(database)
    await miss(database, -24 * 365)

    with capture_logs() as logs:
        for _ in range(2):
            await fire_due(database, ())

    assert [log["event"] for log in logs][:1] == ["database_clock_went_back"]
    ticks = "last_tick_at <= now() AND next_tick_at BETWEEN now() AND now() + interval '1 hour'"
    assert await jobs.scalar(f"SELECT {ticks} FROM job_schedules") is True
    assert await count_jobs(jobs) == 0


async def fired(database: Database, jobs: Jobs, *, since: str, now: str, **values: str) -> list[str]:
    """Return the ticks that become jobs if workers look each ten minutes from one time to another."""
    await add(database, catch_up=CatchUp.ALL, **values)
    time, end = datetime.fromisoformat(since), datetime.fromisoformat(now)
    async with database.sessions.begin() as session:
        await session.execute(update(JobSchedule).values(last_tick_at=time, next_tick_at=time))
    while time < end:
        time += timedelta(minutes=10)
        async with database.sessions.begin() as session:
            found = (await session.execute(text("SELECT * FROM job_schedules"))).mappings().one()
        due = Due(**{name: found.get(name, False) for name in Due.__slots__})
        if due.next_tick_at <= time:
            await fire_rows(database, ScheduleLook(time, [due], None, None))
    ticks = await jobs.scalar("SELECT array_agg(run_at ORDER BY run_at) FROM jobs")
    return [f"{tick:%d %H:%M}" for tick in ticks]


async def test_a_fixed_time_that_a_clock_skips_in_spring_ticks_right_after_the_change(
    jobs: Jobs, database: Database
) -> None:
    ticks = await fired(
        database, jobs, since="2026-03-28T00:00Z", now="2026-03-30T02:00Z",
        expression="30 2 * * *", timezone="Europe/Berlin",
    )  # fmt: skip

    assert ticks == ["28 01:30", "29 01:00", "30 00:30"]


async def test_a_fixed_time_that_a_clock_shows_twice_in_autumn_ticks_the_first_time(
    jobs: Jobs, database: Database
) -> None:
    ticks = await fired(
        database, jobs, since="2026-10-24T00:00Z", now="2026-10-26T03:00Z",
        expression="30 2 * * *", timezone="Europe/Berlin",
    )  # fmt: skip

    assert ticks == ["24 00:30", "25 00:30", "26 01:30"]


async def test_an_interval_goes_on_in_real_time_when_the_clock_goes_back(jobs: Jobs, database: Database) -> None:
    ticks = await fired(
        database, jobs, since="2026-10-24T23:45Z", now="2026-10-25T02:15Z",
        expression="*/30 * * * *", timezone="Europe/Berlin",
    )  # fmt: skip

    assert ticks == ["25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00"]
