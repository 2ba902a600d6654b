"""Cron: each tick of a cron enqueues one job, for any number of workers and any state of their clocks."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
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
from app_db.jobs.crons import (
    CronDescription,
    CronState,
    advance_cron,
    cron_states,
    describe_crons,
    note_job,
    take_request,
)
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.jobs.unique import Unique
from app_worker.ticks import ticks_after

log = structlog.get_logger(__name__)

LONGEST_SLEEP = timedelta(seconds=5)
LATE = timedelta(minutes=1)
"""A tick that is found later than this was missed: `CatchUp.SKIP` skips it."""
CATCH_UP_FOR = timedelta(days=7)
"""How far back `CatchUp.ALL` goes, so that a cron that comes back after months does not enqueue months of jobs."""
SHOWN_AHEAD = 3
"""How many next ticks are written for pages."""
MOST_AT_ONCE = 100
"""How many ticks of a cron become jobs in one transaction; the next transaction takes the rest."""


class CatchUp(StrEnum):
    """What happens to ticks that were missed while no worker ran."""

    SKIP = "skip"
    """A tick that is found more than a minute late is skipped."""
    ONE = "one"
    """All missed ticks become one job, for the newest of them."""
    ALL = "all"
    """Each missed tick of the last week becomes a job, in order, and the newest one in any case."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A job that is enqueued at every tick of a cron expression in a time zone, with the tick as its `run_at`.

    When the clock goes forward, a time that it skips ticks right after the change. When it goes back, a time that it
    shows twice ticks the first time. As in Debian's cron, this holds for fixed times only: if minute or hour begins
    with `*`, each minute (or second) of real time that fits ticks.

    Raises:
        ValueError: when the expression has no ticks, the time zone is unknown, or the ledger cannot store name, queue
            or priority.

    Example:
        nightly = Cron("sessions.prune_nightly", "30 2 * * 1-5", PruneSessions, timezone="Europe/Berlin")
        friday = datetime(2026, 1, 2, 12, tzinfo=UTC)
        assert nightly.next_tick(friday) == datetime(2026, 1, 5, 1, 30, tzinfo=UTC)
    """

    name: str
    """The key of its last tick in the ledger. A cron with a new name starts with its next tick. If its expression
    changes, or a removed cron comes back, the ticks since its last one count as missed."""
    expression: str
    """Five fields as in Debian's cron, or six with the seconds first."""
    payload: Callable[[], JobPayload]
    timezone: str = "UTC"
    catch_up: CatchUp = CatchUp.ONE
    overlap: bool = True
    """If False, a tick enqueues no job while the job of an earlier tick is open. If that job waits for its next
    attempt, the tick makes it due at once."""
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

    def next_ticks(self, time: datetime) -> list[datetime]:
        """Return the first ticks after `time`: `SHOWN_AHEAD`, or less if there are no more for fifty years."""
        return list(islice(self._ticks_after(time), SHOWN_AHEAD))

    def describe(self, now: datetime) -> CronDescription:
        """Return what the ledger says of the cron, for pages and commands that cannot import it."""
        kind: str | None = getattr(self.payload, "kind", None)  # a function is called for jobs only
        return CronDescription(self.name, self.expression, self.timezone, self.queue, kind, self.next_ticks(now))

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
class LastReading:
    """The last reading of Postgres's clock, and when it was read, by a clock that never goes back."""

    time: datetime | None = None
    read_at: float = 0

    def expected(self, now: datetime, *, asked_at: float) -> datetime:
        """Return the earliest time that the clock may show if it did not go back; `now` if it was never read.

        Time spent waiting for the reply is not counted, so the expected time is never too late.
        """
        return now if self.time is None else self.time + timedelta(seconds=asked_at - self.read_at)

    def store(self, now: datetime, *, read_at: float) -> None:
        """Store that the clock showed `now`."""
        self.time, self.read_at = now, read_at


async def fire_due(
    database: Database,
    crons: tuple[Cron, ...],
    *,
    last_reading: LastReading | None = None,
    went_back: Callable[[], None] = lambda: None,
) -> timedelta:
    """Enqueue the jobs of all due ticks, and return how long to sleep.

    Only Postgres's clock counts. If one cron fails, the others still fire, and its tick stays due.
    If a last tick or the last reading lies ahead, Postgres's clock has gone back: this repairs the times, calls
    `went_back`, and continues from now.
    """
    asked_at = monotonic()
    async with _time_limit(database), database.sessions.begin() as session:
        now = await database_time(session)
        states = await _look(session, crons, now)
    seen = {name: state.last_tick_at for name, state in states.items()}
    read_at, last_reading = monotonic(), last_reading or LastReading()
    expected = last_reading.expected(now, asked_at=asked_at)
    ahead = [name for name, tick in seen.items() if is_ahead(tick, now)]
    if ahead or is_ahead(expected, now):  # guard: test_a_clock_that_went_back_is_noticed_although_nothing_ticked
        by = max([expected, *seen.values()]) - now
        async with database.sessions.begin() as session:  # without a time limit, because there may be many rows
            rows = await repair_times(session)
        seen |= dict.fromkeys(ahead, now)
        log.warning("database_clock_went_back", crons=ahead, seconds=round(by.total_seconds()), rows=rows)
        went_back()
    # After the repair: if it fails, the next call notices the step again.
    last_reading.store(now, read_at=read_at)
    idle = LONGEST_SLEEP
    for cron in crons:
        try:
            idle = min(idle, await _fire(database, cron, seen=seen.get(cron.name, now), now=now))
            if cron.name in states and (requested_at := states[cron.name].run_requested_at) is not None:
                await _run_requested(database, cron, requested_at)
        except Exception as error:
            log.warning("cron_failed", cron=cron.name, cause=repr(error))
    return idle


async def _look(session: Session, crons: tuple[Cron, ...], now: datetime) -> Mapping[str, CronState]:
    """Return what the ledger has about the crons; describe there what has changed, or was not described lately."""
    states = await cron_states(session, [cron.name for cron in crons])
    known = [cron for cron in crons if cron.name in states]
    news = [cron for cron in known if not states[cron.name].is_described(cron.expression, cron.timezone, cron.queue)]
    if news:
        await describe_crons(session, [cron.describe(now) for cron in news])
    return states


def _time_limit(database: Database) -> asyncio.Timeout:
    """Return the time limit of a request: the command timeout is that of the longest handler, which may be hours."""
    return asyncio.timeout(
        database.settings.request_timeout.total_seconds()
    )  # guard: test_crons_do_not_wait_for_a_silent_connection


async def _fire(database: Database, cron: Cron, *, seen: datetime, now: datetime) -> timedelta:
    """Enqueue the jobs of the due ticks of one cron, and return how long to wait for the next tick.

    One transaction claims the ticks and enqueues their jobs, so each tick fires once.
    """
    first = cron.next_tick(seen)
    if first > now:
        return first - now
    ticks = cron.due_ticks(seen, now)
    async with _time_limit(database), database.sessions.begin() as session:
        tick, next_ticks = ticks[-1] if ticks else now, cron.next_ticks(now)
        if not await advance_cron(session, cron.name, seen=seen, tick=tick, next_ticks=next_ticks):
            return cron.next_tick(now) - now  # guard: test_a_tick_fires_once
        for tick in ticks:
            await enqueue_job_of(session, cron, tick)
    if cron.catch_up is not CatchUp.ONE and first not in ticks:
        log.warning("cron_ticks_passed_over", cron=cron.name, since=first.isoformat())
    log.info("cron_fired", cron=cron.name, ticks=[tick.isoformat() for tick in ticks])
    return timedelta(0) if len(ticks) == MOST_AT_ONCE else cron.next_tick(now) - now


async def _run_requested(database: Database, cron: Cron, requested_at: datetime) -> None:
    """Enqueue the job that an operator asked for, unless another worker has done it."""
    async with _time_limit(database), database.sessions.begin() as session:
        if not await take_request(session, cron.name, requested_at=requested_at):
            return  # guard: test_a_run_that_an_operator_asked_for_is_one_job
        job_id = await enqueue_job_of(session, cron, None)
    log.info("cron_run_on_request", cron=cron.name, job_id=str(job_id))


async def enqueue_job_of(session: Session, cron: Cron, tick: datetime | None) -> UUID:
    """Enqueue the job of a cron for a tick, or for now without a tick; return its id, or that of the open job.

    The transaction holds the row of the cron: by its tick, by a request, or by `hold_cron`.
    """
    payload, unique = cron.payload(), None if cron.overlap else Unique(key=f"cron:{cron.name}")
    job_id = await enqueue(session, payload, run_at=tick, queue=cron.queue, priority=cron.priority, unique=unique)
    open_job = await note_job(
        session, cron.name, job_id, kind=payload.kind, queue=cron.queue, is_asked_for=tick is None
    )
    if open_job is not None:
        about = {"job_id": str(job_id), "state": open_job.state, "attempt": open_job.attempt}
        log.warning("cron_job_still_open", cron=cron.name, **about)
    return job_id


async def run_schedule(
    database: Database, crons: tuple[Cron, ...], *, went_back: Callable[[], None] = lambda: None
) -> None:
    """Fire due crons until cancelled.

    Raises:
        ValueError: when two crons have the same name.
    """
    if len({cron.name for cron in crons}) < len(crons):
        raise ValueError(f"crons share a name: {', '.join(sorted(cron.name for cron in crons))}")
    last_reading = LastReading()
    while True:
        try:
            idle = await fire_due(database, crons, last_reading=last_reading, went_back=went_back)
        except Exception as error:  # an outage of Postgres: the ticks stay due
            log.warning("cron_failed", cause=repr(error))
            idle = LONGEST_SLEEP
        await asyncio.sleep(idle.total_seconds())
