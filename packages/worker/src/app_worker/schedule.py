"""Cron as data: what runs when. Each tick fires once, however many workers there are and whatever their clocks say."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile
from time import monotonic
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from cronsim import CronSimError

from app_db import Database, Session
from app_db.clock import database_time
from app_db.jobs.bounds import SMALLINT, require_name
from app_db.jobs.clock_steps import is_ahead, repair_times
from app_db.jobs.crons import advance_cron, join_open_job, last_ticks
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.jobs.unique import Unique
from app_worker.ticks import ticks_after

log = structlog.get_logger(__name__)

LONGEST_SLEEP = timedelta(seconds=5)
LATE = timedelta(minutes=1)
"""A tick that is found later was missed: `CatchUp.SKIP` passes over it."""
CATCH_UP_FOR = timedelta(days=7)
"""`CatchUp.ALL` goes back no further, so that a cron that comes back after months does not bring months of jobs."""
MOST_AT_ONCE = 100
"""So many ticks of a cron become jobs in one transaction; the rest follows in the next."""


class CatchUp(StrEnum):
    """What becomes of ticks that passed while no worker ran."""

    SKIP = "skip"
    """Nothing, if they are found more than a minute late."""
    ONE = "one"
    """Together one job, for the newest of them."""
    ALL = "all"
    """Each becomes a job, in order: all of the last week, and the newest in any case."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A job that is enqueued at every tick of a cron expression in a time zone, with the tick as its `run_at`.

    A time that a day does not have, because the clocks go forward, ticks when they have gone; one that a day has twice
    ticks the first time. As in Debian's cron this holds for fixed times, with seconds or without: where minute or hour
    begins with `*`, what ticks is each minute (or second) of real time that fits.

    Raises:
        ValueError: when the expression has no ticks, the time zone is unknown, or name, queue or priority are none that
            the ledger can hold.
    """

    name: str
    """What its last tick is kept under. A cron with a new name starts with its next tick; one whose expression changed,
    and one that is back, find the ticks since its last one missed."""
    expression: str
    """Five fields as in Debian's cron, or six, of which the first are the seconds."""
    payload: Callable[[], JobPayload]
    timezone: str = "UTC"
    catch_up: CatchUp = CatchUp.ONE
    overlap: bool = True
    """If False, a tick makes no job while that of an earlier one is open; one that waits for its next attempt is tried
    again at the tick, whatever its back-off."""
    queue: str = "default"
    priority: int = 2

    def __post_init__(self) -> None:
        try:
            self.next_tick(datetime(2000, 1, 1, tzinfo=UTC))
        except (CronSimError, StopIteration) as error:
            raise ValueError(
                f"cron {self.name}: {self.expression!r} has no ticks: {str(error) or 'no such day'}"
            ) from None
        except (KeyError, ValueError, OSError):
            raise ValueError(f"cron {self.name}: there is no time zone {self.timezone!r}") from None
        require_name(self.name, "a cron")
        require_name(self.queue, f"the queue of cron {self.name}")
        if not -SMALLINT <= self.priority < SMALLINT:
            raise ValueError(
                f"cron {self.name}: priority {self.priority} is not between {-SMALLINT} and {SMALLINT - 1}"
            )
        if self.catch_up is CatchUp.ALL and not self.overlap:
            raise ValueError(f"cron {self.name}: it cannot catch up with all ticks when they must not overlap")

    def next_tick(self, time: datetime) -> datetime:
        """Return the first tick after `time`."""
        return next(self._ticks_after(time))

    def due_ticks(self, seen: datetime, now: datetime) -> list[datetime]:
        """Return which of the ticks after `seen` and up to `now` fire, the oldest first: at most `MOST_AT_ONCE`."""
        if self.catch_up is CatchUp.ONE:
            return self._newest_tick(seen, now)
        horizon = LATE if self.catch_up is CatchUp.SKIP else CATCH_UP_FOR
        ticks = list(islice(self._ticks_between(max(seen, now - horizon), now), MOST_AT_ONCE))
        return ticks if ticks or self.catch_up is CatchUp.SKIP else self._newest_tick(seen, now)

    def _newest_tick(self, seen: datetime, now: datetime) -> list[datetime]:
        # Years of ticks may lie between: look back further and further.
        span = LATE
        while not (ticks := list(self._ticks_between(max(seen, now - span), now))) and seen < now - span:
            span *= 4
        return ticks[-1:]

    def _ticks_between(self, time: datetime, now: datetime) -> Iterator[datetime]:
        return takewhile(lambda tick: tick <= now, self._ticks_after(time))

    def _ticks_after(self, time: datetime) -> Iterator[datetime]:
        return ticks_after(self.expression, ZoneInfo(self.timezone), time)


@dataclass(slots=True)
class LastLook:
    """What Postgres's clock said last, and when we had read that, by a clock that never goes back."""

    time: datetime | None = None
    read_at: float = 0

    def expect(self, now: datetime, *, asked_at: float) -> datetime:
        """Return what the clock says at least if it did not go back, and note that it says `now`.

        However long somebody waited for an answer, the time between two looks is not taken for more than it was.
        """
        expected = now if self.time is None else self.time + timedelta(seconds=asked_at - self.read_at)
        self.time, self.read_at = now, monotonic()
        return expected


async def fire_due(
    database: Database,
    crons: tuple[Cron, ...],
    *,
    last_look: LastLook | None = None,
    went_back: Callable[[], None] = lambda: None,
) -> timedelta:
    """Enqueue the jobs of all ticks that are due, and return for how long there is nothing to do.

    Only Postgres's clock is asked. A cron that fails does not keep the others from firing; its tick is still due.
    Where a last tick lies ahead, or the time of the last look, that clock has gone back: this calls `went_back`, and
    all goes on from now.
    """
    asked_at = monotonic()
    async with _in_time(database), database.sessions.begin() as session:
        now = await database_time(session)
        seen = await last_ticks(session, [cron.name for cron in crons])
    expected = (last_look or LastLook()).expect(now, asked_at=asked_at)
    ahead = [name for name, tick in seen.items() if is_ahead(tick, now)]
    if ahead or is_ahead(expected, now):  # guard: test_a_clock_that_went_back_is_noticed_although_nothing_ticked
        by = max([expected, *seen.values()]) - now
        async with database.sessions.begin() as session:  # which may be many rows
            rows = await repair_times(session)
        seen |= dict.fromkeys(ahead, now)
        log.warning("database_clock_went_back", crons=ahead, seconds=round(by.total_seconds()), rows=rows)
        went_back()
    idle = LONGEST_SLEEP
    for cron in crons:
        try:
            idle = min(idle, await _fire(database, cron, seen=seen.get(cron.name, now), now=now))
        except Exception as error:
            log.warning("cron_failed", cron=cron.name, cause=repr(error))
    return idle


def _in_time(database: Database) -> asyncio.Timeout:
    """Wait for a connection that fell silent no longer than a request would: a handler's statements may take hours."""
    return asyncio.timeout(
        database.settings.request_timeout.total_seconds()
    )  # guard: test_crons_do_not_wait_for_a_silent_connection


async def _fire(database: Database, cron: Cron, *, seen: datetime, now: datetime) -> timedelta:
    """Enqueue the ticks of one cron that are due, and return how long to wait for the next.

    Claiming them and enqueuing their jobs are one transaction, so a tick fires once, whoever tries, whatever dies.
    """
    first = cron.next_tick(seen)
    if first > now:
        return first - now
    ticks = cron.due_ticks(seen, now)
    async with _in_time(database), database.sessions.begin() as session:
        if not await advance_cron(session, cron.name, seen=seen, tick=ticks[-1] if ticks else now):
            return cron.next_tick(now) - now  # guard: test_a_tick_fires_once
        for tick in ticks:
            await enqueue_job_of(session, cron, tick)
    if cron.catch_up is not CatchUp.ONE and first not in ticks:
        log.warning("cron_ticks_passed_over", cron=cron.name, since=first.isoformat())
    log.info("cron_fired", cron=cron.name, ticks=[tick.isoformat() for tick in ticks])
    return timedelta(0) if len(ticks) == MOST_AT_ONCE else cron.next_tick(now) - now


async def enqueue_job_of(session: Session, cron: Cron, tick: datetime | None) -> UUID:
    """Enqueue what the cron enqueues at a tick, or without one at once; return the id of the job that is there now."""
    unique = None if cron.overlap else Unique(key=f"cron:{cron.name}")
    job_id = await enqueue(
        session, cron.payload(), run_at=tick, queue=cron.queue, priority=cron.priority, unique=unique
    )
    if unique is not None and (open_job := await join_open_job(session, job_id, queue=cron.queue)) is not None:
        about = {"job_id": str(job_id), "state": open_job.state, "attempt": open_job.attempt}
        log.warning("cron_job_still_open", cron=cron.name, **about)
    return job_id


async def run_schedule(
    database: Database, crons: tuple[Cron, ...], *, went_back: Callable[[], None] = lambda: None
) -> None:
    """Fire due crons until cancelled.

    Raises:
        ValueError: when two of them have the same name.
    """
    if len({cron.name for cron in crons}) < len(crons):
        raise ValueError(f"crons share a name: {', '.join(sorted(cron.name for cron in crons))}")
    last_look = LastLook()
    while True:
        try:
            idle = await fire_due(database, crons, last_look=last_look, went_back=went_back)
        except Exception as error:  # an outage: what is due still is at the next look
            log.warning("cron_failed", cause=repr(error))
            idle = LONGEST_SLEEP
        await asyncio.sleep(idle.total_seconds())
