"""Names on the command line: misspelt ones, kinds of jobs to enqueue, crons to list and to run."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app_db.features.retention.payloads import PruneSessions
from app_db.models import JobState
from app_db.settings import DatabaseSettings
from app_worker.command_line.arguments import parse
from app_worker.command_line.commands import execute
from app_worker.command_line.enqueue_commands import NotEnqueued
from app_worker.command_line.known_names import NameNotFound
from app_worker.crons import CRONS
from app_worker.schedule import fire_due
from app_worker.settings import CommandSettings
from app_worker.testing import one_time_settings

from .conftest import Jobs
from .test_commands import Command, document_of

AN_ID = "0199f0de-0000-7000-8000-000000000000"


@pytest.fixture
def command(jobs: Jobs, database_settings: DatabaseSettings) -> Command:
    """Run a command line on the database of the test."""
    settings = CommandSettings.model_validate({"database": database_settings, "auth": one_time_settings()})

    async def command(*arguments: object) -> Any:
        return await execute(settings, parse([str(argument) for argument in arguments]))

    return command


@pytest.mark.parametrize("steered", [["pause", "defualt"], ["resume", "defualt"], ["limit", "defualt", "3"]])
async def test_a_queue_that_nobody_uses_is_not_made_by_a_slip(jobs: Jobs, command: Command, steered: list[str]) -> None:
    with pytest.raises(NameNotFound) as refused:
        await command(*steered)

    assert refused.value.reason() == "There is no queue 'defualt'; did you mean default?"
    assert await jobs.scalar("SELECT count(*) FROM job_queues") == 0


async def test_a_queue_that_is_meant_to_be_new_may_be_paused(command: Command) -> None:
    (queue,) = (await document_of(command, "pause", "later", "--new"))["queues"]

    assert queue["name"] == "later"
    assert queue["paused_at"] is not None


@pytest.mark.parametrize("name", ["default", "retention", "bulk"])
async def test_our_own_queues_are_there_before_anybody_has_used_them(command: Command, name: str) -> None:
    (queue,) = (await document_of(command, "pause", name))["queues"]

    assert queue["name"] == name


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["list", "--queue", "retenton"], "There is no queue 'retenton'; did you mean retention?"),
        (["retry", "--queue", "xyz"], "There is no queue 'xyz'; there is bulk, default, retention"),
        (["list", "--kind", "sesions.prune"], "There is no kind of job 'sesions.prune'; did you mean sessions.prune?"),
        (["discard", "--kind", "test.noted"], "There is no kind of job 'test.noted'; there is "),
        (["enqueue", "sesions.prune"], "There is no kind of job 'sesions.prune'; did you mean sessions.prune?"),
        (["crons", "run", "sesions.prune"], "There is no cron 'sesions.prune'; did you mean sessions.prune?"),
    ],
)
async def test_a_name_that_is_misspelt_is_refused_with_what_may_be_meant(
    command: Command, arguments: list[str], reason: str
) -> None:
    with pytest.raises(NameNotFound) as refused:
        await command(*arguments)

    assert refused.value.reason().startswith(reason)


async def test_a_kind_that_has_jobs_is_known(jobs: Jobs, command: Command) -> None:
    await jobs.enqueue()

    assert (await document_of(command, "list", "--kind", "test.note", "--state", "discarded"))["items"] == []
    assert (await document_of(command, "list", "--kind", "sessions.prune"))["items"] == []


@pytest.mark.parametrize("state", ["dead", "failed", "finished"])
def test_a_state_that_is_none_is_answered_with_those_that_are(capsys: pytest.CaptureFixture[str], state: str) -> None:
    with pytest.raises(SystemExit):
        parse(["list", "--state", state])

    complaint = capsys.readouterr().err
    assert f"there is no state '{state}': choose from {', '.join(JobState)}" in complaint
    assert ("a job that failed for good is discarded" in complaint) is (state != "finished")


@pytest.mark.parametrize(("own", "shown"), [(None, 20), (3, 3)])
async def test_a_job_is_shown_with_the_limit_that_holds(
    jobs: Jobs, command: Command, own: int | None, shown: int
) -> None:
    job_id = await jobs.enqueue(PruneSessions(), max_attempts=own)

    assert (await document_of(command, "show", job_id))["max_attempts"] == shown


async def test_a_job_is_enqueued_as_the_command_line_says(jobs: Jobs, command: Command) -> None:
    answer = await command(
        "enqueue", "email.welcome", f'{{"user_id": "{AN_ID}"}}', "--queue", "mail", "--priority", "7", "--run-at",
        "2999-01-01T00:00+00:00", "--max-attempts", "2",
    )  # fmt: skip

    document = answer.model_dump(mode="json")
    assert answer.text() == f"enqueued: {document['id']}\n"
    job = await jobs.get(UUID(document["id"]))
    assert (job.kind, job.queue, job.priority, job.max_attempts) == ("email.welcome", "mail", 7, 2)
    assert (job.payload["user_id"], job.run_at) == (AN_ID, datetime(2999, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["email.welcome"], "the payload of email.welcome: user_id: Field required; its fields are user_id"),
        (
            ["email.welcome", f'{{"user_id": "{AN_ID}", "usr": 1}}'],
            "the payload of email.welcome: usr: there is no such field; its fields are user_id",
        ),
        (
            ["sessions.prune", '{"age": 1}'],
            "the payload of sessions.prune: age: there is no such field; it has no fields",
        ),
        (
            ["email.welcome", "[]"],
            "the payload of email.welcome: payload: Input should be an object; its fields are user_id",
        ),
        (["email.welcome", '{"user_id": "secret"}'], "the payload of email.welcome: user_id: Input should be"),
        (["sessions.prune", "{"], "the payload of sessions.prune: payload: Invalid JSON"),
        (["sessions.prune", "--priority", "99999"], "priority 99999 is not between"),
    ],
)
async def test_a_job_that_is_not_accepted_is_refused_with_the_reason(
    jobs: Jobs, command: Command, arguments: list[str], reason: str
) -> None:
    with pytest.raises(NotEnqueued) as refused:
        await command("enqueue", *arguments)

    assert refused.value.reason().startswith(reason)
    assert "secret" not in refused.value.reason()
    assert await jobs.scalar("SELECT count(*) FROM jobs") == 0


@pytest.mark.parametrize("time", ["tomorrow", "2999-01-01T00:00"])
def test_a_time_that_says_nothing_is_refused(capsys: pytest.CaptureFixture[str], time: str) -> None:
    with pytest.raises(SystemExit):
        parse(["enqueue", "sessions.prune", "--run-at", time])

    assert "as in 2026-12-24T18:00+01:00" in capsys.readouterr().err


async def test_crons_are_listed_with_their_ticks(jobs: Jobs, command: Command) -> None:
    before = (await document_of(command, "crons", "list"))["crons"]
    await fire_due(jobs.database, CRONS)

    answer = await command("crons", "list")

    assert [cron["last_tick_at"] for cron in before] == [None] * len(CRONS)
    after = answer.model_dump(mode="json")["crons"]
    assert [cron["name"] for cron in after] == [cron.name for cron in CRONS]
    assert all(cron["last_tick_at"] < cron["next_tick_at"] for cron in after)
    assert answer.text().splitlines()[0].split("  ")[0] == "CRON"


async def test_a_cron_is_run_between_its_ticks(jobs: Jobs, command: Command) -> None:
    first = await document_of(command, "crons", "run", "sessions.prune")
    again = await document_of(command, "crons", "run", "sessions.prune")

    assert first == again  # it does not overlap
    assert (await jobs.get(UUID(first["id"]))).state is JobState.AVAILABLE
