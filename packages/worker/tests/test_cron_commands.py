"""Crons of the table on the command line."""

from typing import Any

import pytest
from sqlalchemy import text

from app_db.errors import AppError
from app_db.jobs.crons import cron_states
from app_db.jobs.schedule_values import InvalidSchedule
from app_db.jobs.schedules import CronInCode, CronNameTaken
from app_db.settings import DatabaseSettings
from app_worker.command_line.arguments import parse
from app_worker.command_line.commands import execute
from app_worker.command_line.known_names import NameNotFound
from app_worker.crons import CRONS
from app_worker.settings import CommandSettings
from app_worker.testing import one_time_settings

from .conftest import Jobs
from .test_commands import Command, document_of

ADD = ("crons", "add", "reports.nightly", "sessions.prune", "30 2 * * *")


@pytest.fixture
def command(jobs: Jobs, database_settings: DatabaseSettings) -> Command:
    """Run a command line on the database of the test."""
    settings = CommandSettings.model_validate({"database": database_settings, "auth": one_time_settings()})

    async def command(*arguments: object) -> Any:
        return await execute(settings, parse([str(argument) for argument in arguments]))

    return command


async def row(jobs: Jobs, columns: str) -> Any:
    return await jobs.scalar(f"SELECT concat_ws(' ', {columns}) FROM job_schedules")


async def test_a_cron_is_added_with_what_was_typed(jobs: Jobs, command: Command) -> None:
    values = ("--timezone", "Europe/Berlin", "--queue", "slow", "--priority", -3, "--catch-up", "all")
    [cron] = (await document_of(command, *ADD, *values))["crons"]

    assert (cron["name"], cron["is_in_table"], cron["timezone"]) == ("reports.nightly", True, "Europe/Berlin")
    assert await row(jobs, "kind, expression, queue, priority, catch_up, overlap, created_by") == (
        "sessions.prune 30 2 * * * slow -3 all t shell"
    )


async def test_what_is_not_named_of_a_cron_stays_as_it_is(jobs: Jobs, command: Command) -> None:
    await command(*ADD, "--queue", "slow", "--no-overlap", "--payload", "{}")

    await command("crons", "change", "reports.nightly", "--expression", "0 5 * * *")

    assert await row(jobs, "expression, queue, overlap, version") == "0 5 * * * slow f 2"
    await command("crons", "change", "reports.nightly", "--overlap", "--kind", "jobs.prune")
    assert await row(jobs, "kind, expression, overlap, version") == "jobs.prune 0 5 * * * t 3"


async def test_crons_of_the_table_are_listed_beside_those_in_code(jobs: Jobs, command: Command) -> None:
    await command(*ADD)
    paused = (await command("crons", "pause", "reports.nightly")).text()

    listed: Any = await command("crons", "list")

    assert len(listed.crons) == len(CRONS) + 1
    assert paused.splitlines()[1].endswith("table, paused")
    assert listed.text().splitlines()[1] == listed.text().splitlines()[1].rstrip()
    resumed = (await document_of(command, "crons", "resume", "reports.nightly"))["crons"][0]
    assert (resumed["paused_at"], resumed["next_tick_at"] is None) == (None, False)


async def test_why_a_cron_enqueues_nothing_is_listed(jobs: Jobs, command: Command) -> None:
    await command(*ADD)
    async with jobs.database.sessions.begin() as session:
        await cron_states(session, ["reports.nightly"])

    assert "table, a cron in code has its name" in (await command("crons", "list")).text()


async def test_a_cron_of_the_table_is_run_by_hand(jobs: Jobs, command: Command) -> None:
    await command(*ADD, "--queue", "slow")

    enqueued = await document_of(command, "crons", "run", "reports.nightly")

    assert (enqueued["kind"], enqueued["queue"]) == ("sessions.prune", "slow")
    assert str(await jobs.scalar("SELECT id FROM jobs")) == enqueued["id"]


async def test_a_cron_is_deleted(jobs: Jobs, command: Command) -> None:
    await command(*ADD)

    assert (await command("crons", "delete", "reports.nightly")).text() == "deleted: reports.nightly\n"

    assert await jobs.scalar("SELECT count(*) FROM job_schedules") == 0


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        (("add", "x", "misspelt", "0 * * * *"), InvalidSchedule, "kind: There is no such kind of job."),
        (("add", "x", "email.welcome", "0 * * * *"), InvalidSchedule, "payload.user_id: Field required"),
        (("add", "x", "sessions.prune", "0 0 30 2 *"), InvalidSchedule, "expression: It never ticks: Bad day-of-month"),
        (("add", "sessions.prune", "sessions.prune", "0 * * * *"), CronNameTaken, "There is a cron of this name"),
        (("change", "reports.nihgtly", "--queue", "x"), NameNotFound, "did you mean reports.nightly?"),
        (("pause", "reports.nihgtly"), NameNotFound, "There is no cron 'reports.nihgtly'"),
        (("run", "of.another_release"), NameNotFound, "There is no cron 'of.another_release'"),
        (("pause", "of.another_release"), CronInCode, "a release changes it"),
    ],
)
async def test_what_cannot_be_done_to_a_cron_is_refused_with_the_reason(
    jobs: Jobs, command: Command, arguments: tuple[str, ...], error: type[AppError], reason: str
) -> None:
    await command(*ADD)
    async with jobs.database.sessions.begin() as session:
        await cron_states(session, ["of.another_release"])

    with pytest.raises(error) as refused:
        await command("crons", *arguments)

    assert reason in refused.value.reason()


async def test_what_commands_do_to_crons_is_audited(jobs: Jobs, command: Command) -> None:
    await command(*ADD)
    await command("crons", "change", "reports.nightly", "--priority", 3)
    for action in ("pause", "resume", "delete"):
        await command("crons", action, "reports.nightly")

    assert await jobs.scalar("SELECT array_agg(event ORDER BY id) FROM audit_events") == [
        "cron_added", "cron_changed", "cron_paused", "cron_resumed", "cron_deleted",
    ]  # fmt: skip
    by_shell = "details ->> 'by' = 'shell' AND details ->> 'cron' = 'reports.nightly'"
    async with jobs.database.sessions.begin() as session:
        assert await session.scalar(text(f"SELECT count(*) FROM audit_events WHERE {by_shell}")) == 5
