"""What operators do to crons in the table: add, change, pause, resume, delete, and run now.

Each call is a change in the caller's transaction, which holds the row. Workers look at the table every five seconds at
least, and claim a tick only if the row is as they have read it.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, exists, func, or_, select

from app_db.clock import database_time
from app_db.errors import Conflict
from app_db.jobs.crons import UNSEEN, CronNotFound
from app_db.jobs.payload import JobPayload, UnknownPayload
from app_db.jobs.schedule_ticks import enqueue_job
from app_db.jobs.schedule_values import ScheduleValues, checked_payload
from app_db.jobs.timetables import Timetable
from app_db.models import JobCron, JobSchedule
from app_db.session import Session
from app_db.violations import violation_as

type PayloadClasses = Mapping[str, type[JobPayload]]
"""The kinds that may be scheduled, by name."""


class CronNameTaken(Conflict):
    """There is a cron of this name, in the code of workers or in the table."""

    code = "cron_name_taken"


class CronInCode(Conflict):
    """This cron is code of the workers: a release changes it."""

    code = "cron_in_code"


class CronChanged(Conflict):
    """The cron has been changed meanwhile. Read it again, and decide anew."""

    code = "cron_changed"


class CronKindGone(Conflict):
    """This release has no such kind of job, or its class does not read the payload of the cron any more."""

    code = "cron_kind_gone"


async def add_schedule(
    session: Session, name: str, values: ScheduleValues, *, by: str, payload_classes: PayloadClasses
) -> JobSchedule:
    """Add a cron to the table; it begins with its next tick.

    Args:
        session: the cron is added with its transaction.
        name: one that no other cron has.
        values: what it enqueues, and when.
        by: the id of an operator, or `shell`.
        payload_classes: the kinds that may be scheduled.

    Raises:
        InvalidSchedule: a value cannot be stored, or does not mean anything.
        CronNameTaken: a cron in code or in the table has this name.
    """
    payload, stored = checked_payload(name, values, payload_classes)
    if await _is_in_code(session, name):
        raise CronNameTaken  # guard: test_a_name_of_a_cron_in_code_is_refused
    schedule = JobSchedule(name=name, created_by=by)
    _set_values(schedule, values, payload, stored, by=by, now=await database_time(session))
    session.add(schedule)
    with violation_as(CronNameTaken, of="pk_job_schedules"):
        await session.flush()  # here, where the clash can still be named
    return schedule


async def change_schedule(
    session: Session, name: str, values: ScheduleValues, *, version: int, by: str, payload_classes: PayloadClasses
) -> JobSchedule:
    """Replace all values of a cron: its next tick is that of the new ones, and what was missed is not made up.

    Raises:
        InvalidSchedule: as `add_schedule` does.
        CronNotFound, CronInCode: the table has no such cron.
        CronChanged: its version is another by now.
    """
    payload, stored = checked_payload(name, values, payload_classes)
    schedule = await _held(session, name)
    if schedule.version != version:
        raise CronChanged  # guard: test_a_change_of_what_was_changed_meanwhile_is_refused
    schedule.version += 1
    _set_values(schedule, values, payload, stored, by=by, now=await database_time(session))
    return schedule


async def read_schedule(session: Session, name: str) -> tuple[int, ScheduleValues]:
    """Return the version of a cron and its values, and hold it for a change in this transaction.

    Raises:
        CronNotFound, CronInCode: the table has no such cron.
    """
    now = await _held(session, name)
    return now.version, ScheduleValues(
        now.kind,
        now.expression,
        json.dumps(now.payload),
        now.timezone,
        now.queue,
        now.priority,
        now.catch_up,
        overlap=now.overlap,
    )


async def pause_schedule(session: Session, name: str, *, by: str) -> None:
    """Let no more ticks of a cron become jobs, until it is resumed; its jobs go on. May be repeated.

    Raises:
        CronNotFound, CronInCode: the table has no such cron.
    """
    schedule = await _held(session, name)
    if schedule.paused_at is None:
        schedule.version += 1
        schedule.paused_at, schedule.paused_by = await database_time(session), by
        schedule.next_tick_at, schedule.next_ticks, schedule.problem = None, [], None


async def resume_schedule(session: Session, name: str) -> None:
    """Let a cron go on with its next tick: those that came while it was paused are not made up. May be repeated.

    Raises:
        CronNotFound, CronInCode: the table has no such cron.
    """
    schedule = await _held(session, name)
    if schedule.paused_at is not None:
        schedule.version += 1
        schedule.paused_at = schedule.paused_by = None
        _begin_at(schedule, await database_time(session))


async def run_schedule_now(session: Session, name: str, *, payload_classes: PayloadClasses) -> UUID | None:
    """Enqueue the job of a cron besides its ticks, paused or not, and return its id; None if it is a cron in code.

    If its jobs must not overlap and one is open, that one becomes due now.

    Raises:
        CronNotFound: there is no such cron.
        CronKindGone: this release has no class for its payload.
    """
    if await _is_in_code(session, name):
        return None
    schedule = await _held(session, name)
    try:
        payload = payload_classes[schedule.kind].read(schedule.payload, schedule.payload_version)
    except (KeyError, UnknownPayload) as error:
        raise CronKindGone from error
    job_id, _ = await enqueue_job(
        session,
        name,
        payload,
        tick=None,
        queue=schedule.queue,
        priority=schedule.priority,
        overlap=schedule.overlap,
    )
    return job_id


async def delete_schedule(session: Session, name: str) -> None:
    """Delete a cron of the table, or what is on record of one that is no longer in code; their jobs stay.

    Raises:
        CronNotFound: there is no such cron.
        CronInCode: a worker has it.
    """
    deleted = delete(JobSchedule).where(JobSchedule.name == name).returning(JobSchedule.name)
    if (await session.scalars(deleted)).one_or_none() is not None:
        return
    is_unseen = or_(JobCron.seen_at.is_(None), JobCron.seen_at <= func.now() - UNSEEN)
    forgotten = delete(JobCron).where(JobCron.name == name, is_unseen).returning(JobCron.name)
    if (await session.scalars(forgotten)).one_or_none() is None:
        raise CronInCode if await _is_in_code(session, name) else CronNotFound


async def _is_in_code(session: Session, name: str) -> bool:
    """Return whether a worker has ever had a cron of this name: then the name is the code's."""
    return (await session.scalars(select(exists().where(JobCron.name == name)))).one()


async def _held(session: Session, name: str) -> JobSchedule:
    """Return the row of a cron, locked: neither a tick nor another operator changes it until the transaction ends."""
    found = select(JobSchedule).where(JobSchedule.name == name).with_for_update(key_share=True)
    schedule = (await session.scalars(found.execution_options(populate_existing=True))).one_or_none()
    if schedule is None:
        raise CronInCode if await _is_in_code(session, name) else CronNotFound
    return schedule


def _set_values(
    schedule: JobSchedule, values: ScheduleValues, payload: JobPayload, stored: str, *, by: str, now: datetime
) -> None:
    schedule.kind, schedule.payload, schedule.payload_version = payload.kind, json.loads(stored), payload.version
    schedule.expression, schedule.timezone = values.expression, values.timezone
    schedule.queue, schedule.priority = values.queue, values.priority
    schedule.catch_up, schedule.overlap = values.catch_up, values.overlap
    schedule.changed_at, schedule.changed_by = now, by
    _begin_at(schedule, now)


def _begin_at(schedule: JobSchedule, now: datetime) -> None:
    """Let ticks count from now on."""
    schedule.last_tick_at, schedule.problem = now, None
    schedule.next_ticks, schedule.next_tick_at = [], None
    if schedule.paused_at is None:
        schedule.next_ticks = Timetable(schedule.expression, schedule.timezone).next_ticks(now)
        schedule.next_tick_at = schedule.next_ticks[0]
