"""Commands for crons: those in code, and those of the table."""

from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from app_auth.audit import SHELL, Event, audit
from app_auth.client import NOBODY
from app_db import Database, Session
from app_db.clock import database_time
from app_db.jobs import schedules
from app_db.jobs.crons import CronNotFound, hold_cron, recorded_ticks
from app_db.jobs.schedule_values import ScheduleValues
from app_db.jobs.schedules import CronNameTaken
from app_db.repositories.job_views import CronOverview
from app_db.repositories.schedules import ScheduleRepository
from app_worker.command_line.cron_output import CronRow, Crons, Done
from app_worker.command_line.known_names import NameNotFound
from app_worker.command_line.output import Enqueued, Output
from app_worker.crons import CRONS
from app_worker.schedule import enqueue_job_of
from app_worker.schedule_rows import PAYLOADS

_BY_NAME: Final = {cron.name: cron for cron in CRONS}


async def steer_crons(database: Database, options: Namespace) -> Output:
    """List the crons, run one now, or act on one of the table.

    Raises:
        NameNotFound: for an unknown cron.
        InvalidSchedule, CronNameTaken, CronInCode, CronKindGone: the table refuses it.
    """
    async with database.unit_of_work(read_only=options.cron_command == "list") as session:
        try:
            return await _COMMANDS[options.cron_command](session, options)
        except CronNotFound:
            rows = {cron.name for cron in await ScheduleRepository(session).first()}
            raise NameNotFound("cron", options.name, {*_BY_NAME} | rows) from None


async def _list(session: Session, options: Namespace) -> Output:
    now = await database_time(session)
    last = await recorded_ticks(session, list(_BY_NAME))
    of_code = [
        CronRow(
            name=cron.name,
            expression=cron.expression,
            timezone=cron.timezone,
            queue=cron.queue,
            last_tick_at=last.get(cron.name),
            next_tick_at=cron.next_tick(now),
        )
        for cron in CRONS
    ]
    return Crons(crons=[*of_code, *map(_row, await ScheduleRepository(session).first())])


async def _run(session: Session, options: Namespace) -> Output:
    if (cron := _BY_NAME.get(options.name)) is not None:
        await hold_cron(session, cron.name)  # guard: test_a_cron_that_is_run_by_hand_waits_for_its_tick
        job_id = await enqueue_job_of(session, cron, None)
        return Enqueued(id=job_id, kind=cron.payload().kind, queue=cron.queue)
    job_id_of_row = await schedules.run_schedule_now(session, options.name, payload_classes=PAYLOADS)
    row = await ScheduleRepository(session).named(options.name)
    if job_id_of_row is None or row is None:  # it is a cron in the code of another release
        raise CronNotFound
    return Enqueued(id=job_id_of_row, kind=str(row.kind), queue=str(row.queue))


async def _add(session: Session, options: Namespace) -> Output:
    values = ScheduleValues(**_given(options))
    if options.name in _BY_NAME:  # before a worker has run, the ledger does not know it yet
        raise CronNameTaken
    await schedules.add_schedule(session, options.name, values, by=SHELL, payload_classes=PAYLOADS)
    return await _changed(session, Event.CRON_ADDED, options.name, kind=values.kind)


async def _change(session: Session, options: Namespace) -> Output:
    version, before = await schedules.read_schedule(session, options.name)
    values = replace(before, **_given(options))
    await schedules.change_schedule(session, options.name, values, version=version, by=SHELL, payload_classes=PAYLOADS)
    return await _changed(session, Event.CRON_CHANGED, options.name, kind=values.kind)


async def _pause(session: Session, options: Namespace) -> Output:
    await schedules.pause_schedule(session, options.name, by=SHELL)
    return await _changed(session, Event.CRON_PAUSED, options.name)


async def _resume(session: Session, options: Namespace) -> Output:
    await schedules.resume_schedule(session, options.name)
    return await _changed(session, Event.CRON_RESUMED, options.name)


async def _delete(session: Session, options: Namespace) -> Output:
    await schedules.delete_schedule(session, options.name)
    _audit(session, Event.CRON_DELETED, options.name)
    return Done(done="deleted", name=options.name)


async def _changed(session: Session, event: Event, name: str, *, kind: str | None = None) -> Output:
    _audit(session, event, name, kind=kind)
    row = await ScheduleRepository(session).named(name)
    assert row is not None, "the transaction has its row"
    return Crons(crons=[_row(row)])


def _audit(session: Session, event: Event, name: str, *, kind: str | None = None) -> None:
    audit(
        session, event, client=NOBODY, by=SHELL, cron=name, kind=kind
    )  # guard: test_what_commands_do_to_crons_is_audited


def _given(options: Namespace) -> dict[str, Any]:  # Any: what the parser has made of each
    """Return the values that were typed."""
    names = ("kind", "expression", "payload", "timezone", "queue", "priority", "catch_up", "overlap")
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


def _row(cron: CronOverview) -> CronRow:
    assert cron.schedule is not None, "those in code have rows of their own"
    own = cron.schedule
    return CronRow(
        name=cron.name,
        expression=str(cron.expression),
        timezone=str(cron.timezone),
        queue=str(cron.queue),
        last_tick_at=cron.last_tick_at,
        next_tick_at=next(iter(cron.next_ticks), None),
        is_in_table=True,
        paused_at=own.paused_at,
        problem="a cron in code has its name" if own.is_shadowed else own.problem,
    )


_COMMANDS: Final[Mapping[str, Callable[[Session, Namespace], Awaitable[Output]]]] = {
    "list": _list,
    "run": _run,
    "add": _add,
    "change": _change,
    "pause": _pause,
    "resume": _resume,
    "delete": _delete,
}
