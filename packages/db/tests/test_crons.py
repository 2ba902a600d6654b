"""Ticks that fire once, however many workers there are."""

import asyncio
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from app_db import Database, Session
from app_db.clock import database_time
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs import crons
from app_db.jobs.outbox import enqueue
from app_db.jobs.unique import Unique

MINUTE = timedelta(minutes=1)
NAME = "sessions.prune"


async def begin(database: Database, *names: str) -> datetime:
    """Let a worker see the crons for the first time, and return that time."""
    async with database.sessions.begin() as session:
        assert await crons.cron_states(session, names or [NAME]) == {}
        return await database_time(session)


async def advance(database: Database, *, seen: datetime, tick: datetime) -> bool:
    async with database.sessions.begin() as session:
        return await crons.advance_cron(session, NAME, seen=seen, tick=tick)


async def last_ticks(session: Session, *names: str) -> dict[str, datetime]:
    return {name: state.last_tick_at for name, state in (await crons.cron_states(session, names)).items()}


async def test_a_cron_that_was_never_seen_begins_at_the_first_look(database: Database, session: Session) -> None:
    began = await begin(database)

    assert await last_ticks(session, NAME) == {NAME: began}


async def test_a_look_leaves_the_ticks_of_known_crons_as_they_are(database: Database, session: Session) -> None:
    began = await begin(database)
    await advance(database, seen=began, tick=began + MINUTE)

    assert await last_ticks(session, NAME, "new") == {NAME: began + MINUTE}
    assert (await last_ticks(session, NAME, "new")).keys() == {NAME, "new"}


async def test_workers_that_look_for_the_first_time_together_agree_on_the_beginning(
    database: Database, session: Session
) -> None:
    async def look() -> None:
        async with database.sessions.begin() as first:
            await crons.cron_states(first, [NAME])

    await asyncio.gather(*(look() for _ in range(4)))

    assert (await last_ticks(session, NAME)).keys() == {NAME}


async def test_a_cron_that_was_not_begun_cannot_be_advanced(database: Database, session: Session) -> None:
    now = await database_time(session)

    assert not await advance(database, seen=now, tick=now + MINUTE)


async def test_the_next_tick_fires_for_exactly_one_of_many_workers(database: Database) -> None:
    began = await begin(database)

    fired = await asyncio.gather(*(advance(database, seen=began, tick=began + MINUTE) for _ in range(10)))

    assert fired.count(True) == 1


async def test_what_a_worker_saw_before_another_fired_does_not_fire(database: Database) -> None:
    began = await begin(database)
    await advance(database, seen=began, tick=began + MINUTE)

    assert not await advance(database, seen=began, tick=began + 2 * MINUTE)


async def test_a_tick_whose_transaction_fails_fires_for_the_next_worker(database: Database) -> None:
    began = await begin(database)
    async with database.sessions() as failing:
        await crons.advance_cron(failing, NAME, seen=began, tick=began + MINUTE)
        await failing.rollback()

    assert await advance(database, seen=began, tick=began + MINUTE)


async def test_crons_do_not_disturb_each_other(database: Database, session: Session) -> None:
    began = await begin(database, NAME, "other")
    await advance(database, seen=began, tick=began + MINUTE)

    assert await crons.advance_cron(session, "other", seen=began, tick=began + MINUTE)


async def test_postgres_ends_the_transaction_of_a_worker_that_freezes_with_a_tick(
    database: Database, session: Session
) -> None:
    began = await begin(database)

    await crons.advance_cron(session, NAME, seen=began, tick=began + MINUTE)

    assert await session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "5s"


async def test_jobs_of_one_kind_may_be_told_apart_by_a_key(database: Database, session: Session) -> None:
    nightly, hourly = Unique(key="nightly"), Unique(key="hourly")

    first = await enqueue(session, PruneSessions(), unique=nightly)

    assert await enqueue(session, PruneSessions(), unique=hourly) != first
    assert await enqueue(session, PruneSessions(), unique=nightly) == first


def test_a_job_cannot_be_unique_by_fields_and_by_a_key() -> None:
    with pytest.raises(ValueError, match="not by both"):
        Unique(by=(), key="nightly")
