"""Fires the crons of the table, `job_schedules`: those that operators have added, beside the crons in code."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

import structlog

from app_db import Database
from app_db.jobs.catalog import CATALOG
from app_db.jobs.payload import JobPayload, UnknownPayload
from app_db.jobs.schedule_ticks import Due, ScheduleLook, advance_schedule, enqueue_job, note_problem
from app_db.jobs.timetables import MOST_AT_ONCE, NoTicks, UnknownZone

log = structlog.get_logger(__name__)

LONGEST_SLEEP = timedelta(seconds=5)
PAYLOADS: Final = {payload_class.kind: payload_class for payload_class in CATALOG}


def time_limit(database: Database) -> asyncio.Timeout:
    """Return the time limit of a request: the command timeout is that of the longest handler, which may be hours."""
    return asyncio.timeout(
        database.settings.request_timeout.total_seconds()
    )  # guard: test_crons_do_not_wait_for_a_silent_connection


async def fire_rows(database: Database, look: ScheduleLook) -> timedelta:
    """Enqueue the jobs of all crons that a look has found due, and return how long to sleep.

    If one fails, the others still fire, and its tick stays due.
    """
    idle = LONGEST_SLEEP if look.upcoming_at is None else min(LONGEST_SLEEP, look.upcoming_at - look.now)
    for due in look.due:
        try:
            idle = min(idle, await _fire(database, due, now=look.now))
        except Exception as error:
            log.warning("cron_failed", cron=due.name, cause=repr(error))
    return idle


async def _fire(database: Database, due: Due, *, now: datetime) -> timedelta:
    """Enqueue the jobs of its due ticks, and return how long to wait for the next one: as for crons in code."""
    try:
        payload = _payload_of(due)
    except (UnknownPayload, NoTicks, UnknownZone) as error:
        await _note(database, due, str(error))
        return LONGEST_SLEEP
    ticks = [] if due.is_shadowed else due.timetable.due_ticks(due.last_tick_at, now)
    tick = ticks[-1] if ticks else now
    next_ticks = due.timetable.next_ticks(tick if len(ticks) == MOST_AT_ONCE else now)
    async with time_limit(database), database.sessions.begin() as session:
        if not await advance_schedule(session, due, tick=tick, next_ticks=next_ticks):
            return LONGEST_SLEEP  # guard: test_a_tick_of_a_row_fires_once
        for each in ticks:
            job_id, open_job = await enqueue_job(
                session,
                due.name,
                payload,
                tick=each,
                queue=due.queue,
                priority=due.priority,
                overlap=due.overlap,
            )
            if open_job is not None:
                log.warning("cron_job_still_open", cron=due.name, job_id=str(job_id), state=open_job.state)
    if due.is_shadowed:
        log.warning("cron_shadowed", cron=due.name)
    log.info("cron_fired", cron=due.name, ticks=[each.isoformat() for each in ticks])
    return max(next_ticks[0] - now, timedelta(0))


def _payload_of(due: Due) -> JobPayload:
    """Return the payload of its jobs, once its timetable is known to have ticks.

    Raises:
        UnknownPayload: this release has no class of its kind, or the class does not read what is stored.
        NoTicks, UnknownZone: this release does not know its expression or its time zone any more.
    """
    due.timetable.check()
    if due.kind not in PAYLOADS:
        raise UnknownPayload(f"there is no kind {due.kind!r} in this release")
    return PAYLOADS[due.kind].read(due.payload, due.payload_version)


async def _note(database: Database, due: Due, problem: str) -> None:
    """Write down, once, why the tick is not handled; it stays due, for a worker of another release."""
    if due.problem == problem:
        return
    async with time_limit(database), database.sessions.begin() as session:
        await note_problem(session, due, problem)
    log.warning("cron_failed", cron=due.name, cause=problem)
