"""Crons in the table: what operators may do to them, and what is refused."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text, update

from app_db import Database, Session
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs import crons, schedules
from app_db.jobs.crons import CronNotFound
from app_db.jobs.payload import JobPayload
from app_db.jobs.schedule_ticks import Due, advance_schedule, look_at_schedules
from app_db.jobs.schedule_values import InvalidSchedule, ScheduleValues
from app_db.jobs.schedules import CronChanged, CronInCode, CronKindGone, CronNameTaken
from app_db.jobs.timetables import CatchUp
from app_db.models import Job, JobSchedule
from app_db.types import new_id

NAME = "reports.nightly"
PAYLOADS: dict[str, type[JobPayload]] = {each.kind: each for each in (PruneSessions, WelcomeEmail)}
HOURLY = ScheduleValues(PruneSessions.kind, "0 * * * *")


async def add(database: Database, values: ScheduleValues = HOURLY, *, name: str = NAME) -> None:
    async with database.sessions.begin() as session:
        await schedules.add_schedule(session, name, values, by="shell", payload_classes=PAYLOADS)


async def change(database: Database, values: ScheduleValues, *, version: int = 1) -> None:
    async with database.sessions.begin() as session:
        await schedules.change_schedule(session, NAME, values, version=version, by="somebody", payload_classes=PAYLOADS)


async def act(database: Database, action: Callable[..., Any], **options: Any) -> Any:
    async with database.sessions.begin() as session:
        return await action(session, NAME, **options)


async def row(database: Database) -> JobSchedule:
    async with database.sessions.begin() as session:
        found = await session.get(JobSchedule, NAME)
    assert found is not None
    return found


async def make_due(database: Database) -> Due:
    """Let its last tick be hours ago, and return what a worker sees of it."""
    async with database.sessions.begin() as session:
        ago = {"last_tick_at": JobSchedule.last_tick_at - timedelta(hours=2), "next_tick_at": text("now()")}
        await session.execute(update(JobSchedule).values(ago))
    async with database.sessions.begin() as session:
        [due] = (await look_at_schedules(session)).due
    return due


async def in_code(database: Database, *, is_served: bool = True) -> None:
    """Let a worker have a cron of this name in its code."""
    async with database.sessions.begin() as session:
        await crons.cron_states(session, [NAME])
    if is_served:
        async with database.sessions.begin() as session:
            await crons.describe_crons(session, [crons.CronDescription(NAME, "0 3 * * *", "UTC", "default", None)])


async def claims(database: Database, due: Due) -> bool:
    async with database.sessions.begin() as session:
        return await advance_schedule(session, due, tick=due.next_tick_at, next_ticks=[due.next_tick_at])


async def test_a_cron_is_added_with_its_next_ticks(database: Database) -> None:
    await add(database, ScheduleValues(PruneSessions.kind, "30 2 * * *", timezone="Asia/Tokyo"))

    added = await row(database)
    assert [tick.hour for tick in added.next_ticks] == [17, 17, 17]
    assert (added.next_tick_at, added.version, added.created_by) == (added.next_ticks[0], 1, "shell")
    assert (added.payload, added.payload_version, added.changed_by) == ({}, 1, "shell")


class Secret(JobPayload, encrypted=True):
    """A payload that the ledger never has in plain text."""

    kind = "test.secret"


async def test_a_cron_of_an_encrypted_kind_is_not_added(session: Session) -> None:
    with pytest.raises(InvalidSchedule) as refused:
        await schedules.add_schedule(
            session, NAME, ScheduleValues(Secret.kind, "0 3 * * *"), by="shell", payload_classes={Secret.kind: Secret}
        )

    assert [(fault.path, fault.code) for fault in refused.value.faults] == [(("kind",), "encrypted_kind")]


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"kind": "misspelt"}, "kind"),
        ({"kind": WelcomeEmail.kind}, "payload.user_id"),
        ({"payload": '{"more": 1}'}, "payload.more"),
        ({"payload": "{"}, "payload"),
        ({"payload": f"{{{' ' * 10_000}}}"}, "payload"),
        ({"expression": "61 * * * *"}, "expression"),
        ({"expression": ""}, "expression"),
        ({"expression": "0 0 */31 2 MON#5"}, "expression"),
        ({"timezone": "Europe/Atlantis"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"timezone": "Europe"}, "timezone"),
        ({"timezone": ""}, "timezone"),
        ({"timezone": "\0"}, "timezone"),
        ({"queue": ""}, "queue"),
        ({"queue": "\0"}, "queue"),
        ({"priority": 32768}, "priority"),
        ({"catch_up": CatchUp.ALL, "overlap": False}, "overlap"),
    ],
)
async def test_a_cron_that_cannot_be_meant_is_not_added(session: Session, values: dict[str, Any], path: str) -> None:
    typed = ScheduleValues(**{"kind": PruneSessions.kind, "expression": "0 * * * *", **values})

    with pytest.raises(InvalidSchedule) as refused:
        await schedules.add_schedule(session, NAME, typed, by="shell", payload_classes=PAYLOADS)

    assert refused.value.reason().startswith(f"{path}: ")
    [error] = refused.value.members["errors"]
    assert error["pointer"] == f"#/{path.replace('.', '/')}"


async def test_a_fault_of_a_payload_does_not_quote_it(session: Session) -> None:
    values = ScheduleValues(WelcomeEmail.kind, "0 * * * *", payload='{"user_id": "secret"}')

    with pytest.raises(InvalidSchedule) as refused:
        await schedules.add_schedule(session, NAME, values, by="shell", payload_classes=PAYLOADS)

    assert refused.value.reason() == "payload.user_id: Input should be a valid UUID"


async def test_all_that_is_wrong_with_a_cron_is_said_at_once(session: Session) -> None:
    wrong = ScheduleValues("misspelt", "* *", timezone="x", queue="")

    with pytest.raises(InvalidSchedule) as refused:
        await schedules.add_schedule(session, "", wrong, by="shell", payload_classes=PAYLOADS)

    assert [fault.path for fault in refused.value.faults] == [
        ("name",),
        ("expression",),
        ("timezone",),
        ("queue",),
        ("kind",),
    ]


async def test_a_payload_that_postgres_does_not_keep_is_refused(session: Session) -> None:
    class Strange(JobPayload):
        kind = "test.strange"
        text: str

    values = ScheduleValues(Strange.kind, "0 * * * *", payload=r'{"text": "\u0000"}')

    with pytest.raises(InvalidSchedule) as refused:
        await schedules.add_schedule(session, NAME, values, by="shell", payload_classes={Strange.kind: Strange})

    assert [fault.code for fault in refused.value.faults] == ["not_storable"]


async def test_a_name_of_a_cron_in_code_is_refused(database: Database) -> None:
    await in_code(database)

    with pytest.raises(CronNameTaken):
        await add(database)


async def test_of_two_crons_that_are_added_with_one_name_one_is_refused(database: Database) -> None:
    added = await asyncio.gather(*(add(database) for _ in range(4)), return_exceptions=True)

    assert sorted(type(each).__name__ for each in added) == ["CronNameTaken"] * 3 + ["NoneType"]


async def test_a_change_makes_the_next_tick_one_of_the_new_expression_and_nothing_up(database: Database) -> None:
    await add(database)
    await make_due(database)

    await change(database, ScheduleValues(PruneSessions.kind, "0 5 * * *", queue="slow", priority=-3, overlap=False))

    changed = await row(database)
    assert changed.next_tick_at is not None
    assert (changed.next_tick_at.hour, changed.queue, changed.priority, changed.overlap) == (5, "slow", -3, False)
    assert (changed.version, changed.changed_by, changed.created_by) == (2, "somebody", "shell")
    assert changed.next_tick_at > changed.last_tick_at
    async with database.sessions.begin() as session:
        assert (await look_at_schedules(session)).due == []


async def test_a_change_of_what_was_changed_meanwhile_is_refused(database: Database) -> None:
    await add(database)

    changes = (change(database, ScheduleValues(PruneSessions.kind, f"{minute} * * * *")) for minute in range(4))
    done = await asyncio.gather(*changes, return_exceptions=True)

    assert sorted(type(each).__name__ for each in done) == ["CronChanged"] * 3 + ["NoneType"]
    assert (await row(database)).version == 2


async def test_a_change_after_a_pause_that_somebody_has_not_seen_is_refused(database: Database) -> None:
    await add(database)
    await act(database, schedules.pause_schedule, by="shell")

    with pytest.raises(CronChanged):
        await change(database, HOURLY)


async def test_a_paused_cron_is_never_due_and_goes_on_with_its_next_tick(database: Database) -> None:
    await add(database)
    await make_due(database)

    for _ in range(2):
        await act(database, schedules.pause_schedule, by="shell")
    paused = await row(database)
    async with database.sessions.begin() as session:
        look = await look_at_schedules(session)
    for _ in range(2):
        await act(database, schedules.resume_schedule)
    resumed = await row(database)

    assert (paused.next_tick_at, paused.next_ticks, paused.paused_by, paused.version) == (None, [], "shell", 2)
    assert (look.due, look.upcoming_at) == ([], None)
    assert resumed.next_tick_at is not None
    assert resumed.next_tick_at > resumed.last_tick_at > paused.last_tick_at
    assert (resumed.paused_at, resumed.paused_by, resumed.version) == (None, None, 3)


async def test_a_paused_cron_that_is_changed_stays_paused(database: Database) -> None:
    await add(database)
    await act(database, schedules.pause_schedule, by="shell")

    await change(database, HOURLY, version=2)

    changed = await row(database)
    assert (changed.next_tick_at, changed.next_ticks) == (None, [])
    assert changed.paused_at is not None


@pytest.mark.parametrize(
    "action",
    [
        lambda session, name: schedules.pause_schedule(session, name, by="shell"),
        schedules.resume_schedule,
        schedules.delete_schedule,
    ],
)
async def test_a_cron_in_code_is_changed_by_releases_only(database: Database, action: Callable[..., Any]) -> None:
    with pytest.raises(CronNotFound):
        await act(database, action)
    await in_code(database)

    with pytest.raises(CronInCode):
        await act(database, action)


async def test_the_jobs_of_a_cron_that_is_deleted_stay(database: Database) -> None:
    await add(database)
    job_id = await act(database, schedules.run_schedule_now, payload_classes=PAYLOADS)

    await act(database, schedules.delete_schedule)

    async with database.sessions.begin() as session:
        assert await session.get(JobSchedule, NAME) is None
        assert await session.get(Job, job_id) is not None


async def test_what_is_on_record_of_a_cron_that_is_no_longer_in_code_is_deleted_and_its_name_is_free(
    database: Database,
) -> None:
    await in_code(database, is_served=False)

    await act(database, schedules.delete_schedule)

    await add(database)
    with pytest.raises(CronNotFound):
        async with database.sessions.begin() as session:
            await schedules.delete_schedule(session, "misspelt")


async def test_a_cron_is_run_now_while_it_is_paused(database: Database) -> None:
    await add(database, ScheduleValues(PruneSessions.kind, "0 * * * *", queue="slow", priority=7))
    await act(database, schedules.pause_schedule, by="shell")

    job_id = await act(database, schedules.run_schedule_now, payload_classes=PAYLOADS)

    async with database.sessions.begin() as session:
        job = await session.get_one(Job, job_id)
    assert (job.kind, job.queue, job.priority) == (PruneSessions.kind, "slow", 7)
    assert (await row(database)).last_job_id == job_id


async def test_a_cron_whose_jobs_must_not_overlap_is_run_now_once(database: Database) -> None:
    await add(database, ScheduleValues(PruneSessions.kind, "0 * * * *", overlap=False))

    runs = [await act(database, schedules.run_schedule_now, payload_classes=PAYLOADS) for _ in range(2)]

    assert runs[0] == runs[1]


async def test_a_cron_whose_kind_is_gone_is_not_run_now(database: Database) -> None:
    await add(database)

    with pytest.raises(CronKindGone):
        await act(database, schedules.run_schedule_now, payload_classes={})


async def test_a_run_of_a_name_in_code_is_left_to_the_workers(database: Database) -> None:
    await in_code(database)

    assert await act(database, schedules.run_schedule_now, payload_classes=PAYLOADS) is None


async def test_the_tick_of_a_row_is_claimed_by_exactly_one_of_many_workers(database: Database) -> None:
    await add(database)
    due = await make_due(database)

    assert (await asyncio.gather(*(claims(database, due) for _ in range(8)))).count(True) == 1


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda database: act(database, schedules.pause_schedule, by="shell"),
        lambda database: act(database, schedules.delete_schedule),
        lambda database: change(database, HOURLY),
        in_code,
    ],
)
async def test_a_tick_is_not_claimed_after_somebody_has_acted(
    database: Database, meanwhile: Callable[[Database], Any]
) -> None:
    await add(database)
    due = await make_due(database)

    await meanwhile(database)

    assert not await claims(database, due)


async def test_postgres_ends_the_transaction_of_a_worker_that_freezes_with_a_tick_of_a_row(
    database: Database, session: Session
) -> None:
    await add(database)
    due = await make_due(database)

    await advance_schedule(session, due, tick=due.next_tick_at, next_ticks=[due.next_tick_at])

    assert await session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "5s"


async def test_a_look_finds_what_is_due_by_the_index(database: Database, session: Session) -> None:
    await session.execute(
        text("""
            INSERT INTO job_schedules (name, kind, payload, payload_version, expression, timezone, next_tick_at,
                created_by, changed_by)
            SELECT 'cron-' || n, 'x', '{}', 1, '0 3 * * *', 'UTC', now() + n * interval '1 minute', 'x', 'x'
            FROM generate_series(1, 20000) AS n
        """)
    )
    await session.execute(text("ANALYZE job_schedules"))

    question = "SELECT * FROM job_schedules WHERE next_tick_at <= now() ORDER BY problem IS NOT NULL, next_tick_at"
    plan = "\n".join(await session.scalars(text(f"EXPLAIN {question} LIMIT 1000")))

    assert "ix_job_schedules_next_tick_at" in plan


async def test_no_account_owns_a_cron(database: Database) -> None:
    """So neither its erasure nor retention touches one; the id of who acted stays, as in the audit."""
    await add(database)
    by = str(new_id())

    await act(database, schedules.pause_schedule, by=by)

    assert (await row(database)).paused_by == by
