"""Rates per key: how many jobs start within a time, and what a clock that was ahead leaves behind."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from app_db import Database, Session
from app_db.jobs import limit_control
from app_db.jobs.clock_steps import repair_times
from app_db.jobs.ledger import Starter, start
from app_db.models import JobLimitKey, JobState
from app_db.types import new_id

from .ledger_steps import LEASE, stored
from .limited_jobs import HOUR, add, admitted, end, mail, move_starts, run

pytestmark = pytest.mark.usefixtures("declared_limits")


async def test_no_more_jobs_of_a_key_start_within_its_time_than_the_rate_allows(session: Session) -> None:
    await mail(session, 5, owner_id=new_id())
    await mail(session, 1)

    deliveries = await admitted(session)
    for delivery in deliveries:
        await run(session, delivery, leased=False)

    assert len(deliveries) == 4
    assert await admitted(session) == []


async def test_a_rate_lets_the_next_one_in_when_the_first_start_is_long_enough_ago(session: Session) -> None:
    await mail(session, 5)
    for delivery in await admitted(session):
        await run(session, delivery, leased=False)
    await move_starts(session, timedelta(seconds=55))
    assert await admitted(session) == []
    await move_starts(session, timedelta(seconds=6))

    assert len(await admitted(session)) == 2


async def test_a_job_counts_towards_its_rate_from_its_start_however_long_it_waited(session: Session) -> None:
    await mail(session, 5)
    one, two, three = await admitted(session)
    assert await admitted(session) == []
    await run(session, one, leased=False)
    await move_starts(session, timedelta(seconds=61))
    (four,) = await admitted(session)
    for delivery in (two, three, four):
        await run(session, delivery, leased=False)

    assert await admitted(session) == []


async def test_a_start_in_tx_mode_that_was_rolled_back_counts_towards_the_rate(
    database: Database, session: Session
) -> None:
    await mail(session, 4)
    one, *_ = await admitted(session)
    async with database.sessions() as handler:
        await start(handler, one, Starter(new_id(), [], LEASE))
        await handler.rollback()
    await end(session, one, JobState.RETRYABLE, due_in=HOUR)

    assert await admitted(session) == []


async def test_starts_are_forgotten_when_their_time_is_over(session: Session) -> None:
    await mail(session, 1)
    (one,) = await admitted(session)
    await run(session, one, leased=False)
    await admitted(session)
    assert len((await session.scalars(select(JobLimitKey))).all()) == 1
    await move_starts(session, timedelta(seconds=61))
    await admitted(session)

    assert (await session.scalars(select(JobLimitKey))).all() == []


async def test_a_rate_is_shown_as_it_is_written(session: Session) -> None:
    await limit_control.set_limit(session, "test.mail", running=1, rate="20/h", by="shell")

    (row,) = await limit_control.limits(session, "test.mail")

    assert (row.running, row.rate, row.set_by) == (1, "20/h", "shell")


async def test_a_job_that_waits_since_the_clock_was_ahead_is_due(session: Session) -> None:
    await add(session, "ann")
    await session.execute(text("UPDATE jobs SET created_at = created_at + '1 year', due_at = due_at + '1 year'"))
    (later,) = await add(session, "ann", run_at=datetime.now(UTC) + HOUR)

    rows = await repair_times(session)

    assert rows["held_jobs"] == 1
    assert len(await admitted(session)) == 1
    assert (await stored(session, later)).due_at is not None


async def test_starts_that_lie_ahead_do_not_count_for_ever(session: Session) -> None:
    await mail(session, 1)
    (one,) = await admitted(session)
    await run(session, one, leased=False)
    await move_starts(session, -HOUR)

    rows = await repair_times(session)

    (row,) = (await session.scalars(select(JobLimitKey))).all()
    assert rows["limit_keys"] == 1
    assert row.started[0] <= datetime.now(UTC) + timedelta(seconds=1)
