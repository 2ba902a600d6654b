"""Cron as data: what runs when. Each tick becomes one job, however many workers there are."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import structlog
from cronsim import CronSim

from app_db import Database
from app_db.jobs import ledger
from app_db.jobs.catalog import PruneSessions
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload

log = structlog.get_logger(__name__)

LONGEST_SLEEP = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Cron:
    """A job that is enqueued at every tick of a cron expression (five fields, as in Debian's cron) in a time zone.

    Ticks that passed while no worker ran are caught up by one job.
    """

    name: str
    expression: str
    payload: Callable[[], JobPayload]
    timezone: str = "UTC"

    def last_tick(self, now: datetime) -> datetime:
        """Return the newest tick that is not after `now`."""
        # CronSim looks strictly backwards from the minute it is given, and past the hour that is repeated in autumn.
        before = now.astimezone(ZoneInfo(self.timezone)).replace(second=0, microsecond=0) + timedelta(minutes=1)
        tick = next(CronSim(self.expression, before, reverse=True)).astimezone(UTC)
        while (following := self.next_tick(tick)) <= now:
            tick = following
        return tick

    def next_tick(self, now: datetime) -> datetime:
        """Return the first tick after `now`."""
        return next(CronSim(self.expression, now.astimezone(ZoneInfo(self.timezone)))).astimezone(UTC)


CRONS: tuple[Cron, ...] = (Cron("sessions.prune", "*/10 * * * *", PruneSessions),)


async def fire_due(database: Database, crons: tuple[Cron, ...]) -> timedelta:
    """Enqueue the newest tick of each cron unless that was done, and return for how long there is nothing to do.

    Claiming the tick and enqueuing the job are one transaction, so a tick fires exactly once, whoever tries, whatever
    dies. Only Postgres's clock is asked.
    """
    async with database.sessions.begin() as session:
        now = await ledger.database_time(session)
        for cron in crons:
            if not await ledger.advance_cron(session, cron.name, tick=cron.last_tick(now)):
                continue  # guard: test_a_tick_fires_once
            await enqueue(session, cron.payload())
            log.info("cron_fired", cron=cron.name)
    return min((cron.next_tick(now) - now for cron in crons), default=LONGEST_SLEEP)


async def run_schedule(database: Database, crons: tuple[Cron, ...] = CRONS) -> None:
    """Fire due crons until cancelled."""
    while True:
        try:
            idle = await fire_due(database, crons)
        except Exception as error:  # an outage: the tick is still due at the next look
            log.warning("cron_failed", cause=repr(error))
            idle = LONGEST_SLEEP
        await asyncio.sleep(min(idle, LONGEST_SLEEP).total_seconds())
