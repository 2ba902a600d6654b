"""Ticks that fire once, however many workers there are."""

import asyncio
from datetime import datetime, timedelta

from app_db import Database, Session
from app_db.jobs import ledger

MINUTE = timedelta(minutes=1)


async def advance(database: Database, tick: datetime) -> bool:
    async with database.sessions.begin() as session:
        return await ledger.advance_cron(session, "sessions.prune", tick=tick)


async def test_a_cron_that_was_never_seen_does_not_fire(database: Database, session: Session) -> None:
    assert not await advance(database, await ledger.database_time(session))


async def test_the_next_tick_fires_for_exactly_one_of_many_workers(database: Database, session: Session) -> None:
    seen = await ledger.database_time(session)
    await advance(database, seen)

    fired = await asyncio.gather(*(advance(database, seen + MINUTE) for _ in range(10)))

    assert fired.count(True) == 1


async def test_an_earlier_tick_does_not_fire(database: Database, session: Session) -> None:
    seen = await ledger.database_time(session)
    await advance(database, seen)

    assert not await advance(database, seen - MINUTE)


async def test_a_tick_whose_transaction_fails_fires_for_the_next_worker(database: Database, session: Session) -> None:
    seen = await ledger.database_time(session)
    await advance(database, seen)
    async with database.sessions() as failing:
        await ledger.advance_cron(failing, "sessions.prune", tick=seen + MINUTE)
        await failing.rollback()

    assert await advance(database, seen + MINUTE)


async def test_crons_do_not_disturb_each_other(database: Database, session: Session) -> None:
    seen = await ledger.database_time(session)
    await advance(database, seen + MINUTE)
    await ledger.advance_cron(session, "other", tick=seen)

    assert await ledger.advance_cron(session, "other", tick=seen + MINUTE)
