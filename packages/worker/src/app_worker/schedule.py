"""Cron: each tick of a cron enqueues one job, for any number of workers and any state of their clocks."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from uuid import UUID

import structlog

from app_db import Database, Session
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
from app_db.jobs.schedule_ticks import look_at_schedules
from app_db.jobs.timetables import MOST_AT_ONCE, NoTicks, Timetable, UnknownZone
from app_db.jobs.timetables import CatchUp as CatchUp  # noqa: PLC0414  # crons import it from here
from app_db.jobs.unique import Unique
from app_worker.schedule_rows import LONGEST_SLEEP, fire_rows, time_limit

log = structlog.get_logger(__name__)


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
            self.timetable.check()
        except NoTicks as error:
            raise ValueError(f"cron {self.name}: {self.expression!r} has no ticks: {error}") from None
        except UnknownZone as error:
            raise ValueError(f"cron {self.name}: {error}") from None
        require_name(self.name, "a cron")
        require_name(self.queue, f"the queue of cron {self.name}")
        if not -SMALLINT <= self.priority < SMALLINT:
            raise ValueError(
                f"cron {self.name}: priority {self.priority} is not between {-SMALLINT} and {SMALLINT - 1}"
            )
        if self.catch_up is CatchUp.ALL and not self.overlap:
            raise ValueError(f"cron {self.name}: it cannot catch up with all ticks when they must not overlap")

    @property
    def timetable(self) -> Timetable:
        """When it ticks."""
        return Timetable(self.expression, self.timezone, self.catch_up)

    def next_tick(self, time: datetime) -> datetime:
        """Return the first tick after `time`."""
        return self.timetable.next_tick(time)

    def next_ticks(self, time: datetime) -> list[datetime]:
        """Return the next ticks after `time`, for pages: three, or less if there are no more for fifty years."""
        return self.timetable.next_ticks(time)

    def describe(self, now: datetime) -> CronDescription:
        """Return what the ledger says of the cron, for pages and commands that cannot import it."""
        kind: str | None = getattr(self.payload, "kind", None)  # a function is called for jobs only
        return CronDescription(self.name, self.expression, self.timezone, self.queue, kind, self.next_ticks(now))

    def due_ticks(self, seen: datetime, now: datetime) -> list[datetime]:
        """Return which of the ticks after `seen` and up to `now` fire, the oldest first: at most `MOST_AT_ONCE`."""
        return self.timetable.due_ticks(seen, now)


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
    """Enqueue the jobs of all due ticks, of crons in code and in the table, and return how long to sleep.

    Only Postgres's clock counts. If one cron fails, the others still fire, and its tick stays due.
    If a last tick or the last reading lies ahead, Postgres's clock has gone back: this repairs the times, calls
    `went_back`, and continues from now.
    """
    asked_at = monotonic()
    async with time_limit(database), database.sessions.begin() as session:
        rows = await look_at_schedules(session)
        states = await _look(session, crons, now := rows.now)
    seen = {name: state.last_tick_at for name, state in states.items()}
    read_at, last_reading = monotonic(), last_reading or LastReading()
    expected = last_reading.expected(now, asked_at=asked_at)
    ahead = [name for name, tick in seen.items() if is_ahead(tick, now)]
    latest = max([expected, *seen.values(), rows.ahead_at or now])
    if is_ahead(latest, now):  # guard: test_a_clock_that_went_back_is_noticed_although_nothing_ticked
        async with database.sessions.begin() as session:  # without a time limit, because there may be many rows
            repaired = await repair_times(session)
        seen |= dict.fromkeys(ahead, now)
        seconds = round((latest - now).total_seconds())
        log.warning("database_clock_went_back", crons=ahead, seconds=seconds, rows=repaired)
        went_back()
    # After the repair: if it fails, the next call notices the step again.
    last_reading.store(now, read_at=read_at)
    idle = await fire_rows(database, rows)
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


async def _fire(database: Database, cron: Cron, *, seen: datetime, now: datetime) -> timedelta:
    """Enqueue the jobs of the due ticks of one cron, and return how long to wait for the next tick.

    One transaction claims the ticks and enqueues their jobs, so each tick fires once.
    """
    first = cron.next_tick(seen)
    if first > now:
        return first - now
    ticks = cron.due_ticks(seen, now)
    async with time_limit(database), database.sessions.begin() as session:
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
    async with time_limit(database), database.sessions.begin() as session:
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
