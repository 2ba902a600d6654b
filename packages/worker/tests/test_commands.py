"""The output of commands. The tests call `parse` and `execute` as `main` does; test_main.py has the processes."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from app_db.jobs.control import JobIsFinal
from app_db.jobs.ledger import Starter, start
from app_db.jobs.outbox import enqueue_many
from app_db.jobs.workers import WorkerRow, beat
from app_db.models import JobState
from app_db.settings import DatabaseSettings
from app_db.types import new_id
from app_worker.command_line.arguments import parse
from app_worker.command_line.commands import BATCH, execute
from app_worker.command_line.known_names import JobNotFound, NameNotFound
from app_worker.command_line.output import Output
from app_worker.context import JobContext
from app_worker.registry import handles
from app_worker.settings import CommandSettings
from app_worker.testing import drain, one_time_settings

from .conftest import LEASE, Jobs, Note

SOME_ID = "0199f0de-0000-7000-8000-000000000000"

type Command = Callable[..., Awaitable[Output]]


@handles(Note)
async def read(job: JobContext, payload: Note) -> str:
    return payload.text


@handles(Note, max_attempts=1)
async def refuse(job: JobContext, payload: Note) -> None:
    raise ValueError(payload.text)


@pytest.fixture
def command(jobs: Jobs, database_settings: DatabaseSettings) -> Command:
    """Run a command line on the database of the test."""
    settings = CommandSettings.model_validate({"database": database_settings, "auth": one_time_settings()})

    async def command(*arguments: object) -> Output:
        return await execute(settings, parse([str(argument) for argument in arguments]))

    return command


async def document_of(command: Command, *arguments: object) -> dict[str, Any]:
    """Return the document that `--json` prints."""
    return (await command(*arguments)).model_dump(mode="json")


async def enqueue_discarded(jobs: Jobs) -> UUID:
    job_id = await jobs.enqueue(Note(text="broken"))
    await drain(jobs.database, handlers=[refuse], keep_failures=True)
    return job_id


async def test_jobs_are_listed_newest_first_in_a_table(jobs: Jobs, command: Command) -> None:
    first, second = await jobs.enqueue(), await jobs.enqueue(queue="mail")

    text = (await command("list")).text()

    header, *lines = text.splitlines()
    assert header.split("  ")[0] == "ID"
    assert [line.split()[:4] for line in lines] == [
        [str(second), "test.note", "mail", "available"],
        [str(first), "test.note", "default", "available"],
    ]


async def test_a_list_goes_on_where_its_last_page_ended(jobs: Jobs, command: Command) -> None:
    ids = [str(await jobs.enqueue()) for _ in range(3)]

    first = await command("list", "--limit", 2)
    cursor = first.text().splitlines()[-1].removeprefix("more: --after ")
    second = await document_of(command, "list", "--after", cursor)

    assert [job["id"] for job in first.model_dump(mode="json")["items"]] == [ids[2], ids[1]]
    assert [job["id"] for job in second["items"]] == [ids[0]]
    assert second["next"] is None


@pytest.mark.parametrize(("option", "value"), [("--state", "discarded"), ("--queue", "mail"), ("--kind", "test.note")])
async def test_a_list_is_filtered(jobs: Jobs, command: Command, option: str, value: str) -> None:
    await enqueue_discarded(jobs)
    await jobs.enqueue(queue="mail")

    items = (await document_of(command, "list", option, value))["items"]

    assert {str(job[option.removeprefix("--")]) for job in items} == {value}


async def test_the_names_of_a_listed_job_stay(jobs: Jobs, command: Command) -> None:
    await jobs.enqueue()

    (job,) = (await document_of(command, "list"))["items"]

    assert list(job) == [
        "id", "kind", "queue", "state", "priority", "attempt", "max_attempts", "owner_id", "created_at", "run_at",
        "started_at", "finished_at", "batch_id", "progress",
    ]  # fmt: skip


async def test_a_job_is_shown_with_its_failed_attempts(jobs: Jobs, command: Command) -> None:
    job_id = await enqueue_discarded(jobs)

    text = (await command("show", job_id)).text()

    shown = dict(line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith((" ", "attempt")))
    assert (shown["id"], shown["state"], shown["payload"]) == (str(job_id), "discarded", '{"text": "broken"}')
    assert "\nattempt 1 failed at 2" in text
    assert "\n  Traceback (most recent call last):\n" in text
    assert text.endswith("\n  ValueError: broken\n")


async def test_a_shown_job_says_that_somebody_wants_it_to_end(jobs: Jobs, command: Command) -> None:
    delivery = await jobs.deliver()
    async with jobs.database.sessions.begin() as session:
        await start(session, delivery, Starter(new_id(), [Note.kind], LEASE))
    await command("cancel", delivery.id)

    shown = await document_of(command, "show", delivery.id)

    assert (shown["state"], shown["cancel_requested"]) == ("executing", True)


async def test_a_job_that_is_not_there_cannot_be_shown(command: Command) -> None:
    with pytest.raises(JobNotFound):
        await command("show", new_id())


async def test_a_discarded_job_is_retried(jobs: Jobs, command: Command) -> None:
    job_id = await enqueue_discarded(jobs)

    acted = await command("retry", job_id)

    assert acted.text() == "retried: 1 job\n"
    assert await drain(jobs.database, handlers=[read]) == {"completed": 1}


@pytest.mark.parametrize(("action", "state"), [("cancel", JobState.CANCELLED), ("discard", JobState.DISCARDED)])
async def test_a_job_that_waits_is_ended(jobs: Jobs, command: Command, action: str, state: JobState) -> None:
    job_id = await jobs.enqueue()

    await command(action, job_id)

    assert (await jobs.get(job_id)).state is state


@pytest.mark.parametrize("action", ["retry", "cancel", "discard"])
async def test_nothing_is_done_to_a_job_that_is_not_there(command: Command, action: str) -> None:
    with pytest.raises(JobNotFound) as failed:
        await command(action, new_id())

    assert failed.value.describe() == "There is no job with this id."


async def test_a_job_that_has_completed_is_not_cancelled(jobs: Jobs, command: Command) -> None:
    job_id = await jobs.enqueue()
    await drain(jobs.database, handlers=[read])

    with pytest.raises(JobIsFinal):
        await command("cancel", job_id)


async def test_all_that_a_filter_finds_are_acted_on_in_batches(jobs: Jobs, command: Command) -> None:
    async with jobs.database.sessions.begin() as session:
        await enqueue_many(session, [Note()] * (BATCH + 1), queue="mail")
    other = await jobs.enqueue()

    acted = await document_of(command, "cancel", "--queue", "mail")

    assert acted == {"action": "cancel", "count": BATCH + 1}
    assert await jobs.scalar("SELECT count(*) FROM jobs WHERE state = 'cancelled'") == BATCH + 1
    assert (await jobs.get(other)).state is JobState.AVAILABLE


async def test_where_a_filter_finds_nothing_none_is_counted(command: Command) -> None:
    acted = await command("retry", "--state", "discarded")

    assert acted.text() == "retried: 0 jobs\n"


@pytest.mark.parametrize("action", ["retry", "cancel", "discard"])
@pytest.mark.parametrize("arguments", [[], [SOME_ID, "--queue", "mail"]])
def test_a_command_names_a_job_or_filters(
    action: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([action, *arguments])

    assert ended.value.code == 2
    assert "name a job" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--state", "lost"],
        ["list", "--limit", "0"],
        ["list", "--limit", "many"],
        ["list", "--after", "x"],
        ["show", "1"],
        ["limit", "mail", "0"],
        ["pause", " "],
        ["drain", "--queues", "mail,,default"],
        ["retry", "--kind", ""],
    ],
    ids=" ".join,
)
def test_bad_usage_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)

    assert ended.value.code == 2


async def test_a_queue_is_paused_and_resumed(jobs: Jobs, command: Command) -> None:
    await jobs.enqueue(queue="mail")

    await command("pause", "mail")
    assert await drain(jobs.database, handlers=[read]) == {}

    await command("resume", "mail")
    assert await drain(jobs.database, handlers=[read]) == {"completed": 1}


async def test_what_commands_do_to_queues_is_audited(jobs: Jobs, command: Command) -> None:
    await jobs.enqueue(queue="mail")

    for arguments in (["pause", "mail"], ["limit", "mail", 3], ["limit", "mail", "none"], ["resume", "mail"]):
        (queue,) = (await document_of(command, *arguments))["queues"]
        assert queue["paused_by"] == (None if arguments[0] == "resume" else "shell")

    assert await jobs.scalar("SELECT array_agg(event ORDER BY id) FROM audit_events") == [
        "queue_paused", "queue_limited", "queue_limited", "queue_resumed",
    ]  # fmt: skip
    assert await jobs.scalar("SELECT array_agg(details ->> 'max_running' ORDER BY id) FROM audit_events") == [
        None, "3", None, None,
    ]  # fmt: skip
    assert await jobs.scalar("SELECT count(*) FROM audit_events WHERE details ->> 'by' = 'shell'") == 4


async def test_a_queue_is_limited_and_shown(jobs: Jobs, command: Command) -> None:
    await jobs.enqueue(queue="mail")

    text = (await command("limit", "mail", 3)).text()

    header, line = text.splitlines()
    assert header.startswith("QUEUE  PAUSED AT (UTC)  LIMIT  WORKERS  OLDEST DUE (S)  SCHEDULED  AVAILABLE")
    name, paused_at, limit, workers, _, *counts = line.split()
    assert (name, paused_at, limit, workers, counts) == ("mail", "-", "3", "0", ["0", "1", "0", "0", "0"])


async def test_the_limit_of_a_queue_is_lifted(command: Command) -> None:
    await command("limit", "mail", 3, "--new")

    (queue,) = (await document_of(command, "limit", "mail", "none"))["queues"]

    assert queue["max_running"] is None


async def test_a_queue_that_nobody_knows_is_not_resumed(command: Command) -> None:
    with pytest.raises(NameNotFound):
        await command("resume", "typo")


async def test_stats_show_queues_workers_and_counts(jobs: Jobs, command: Command) -> None:
    await enqueue_discarded(jobs)
    await jobs.enqueue()
    async with jobs.database.sessions.begin() as session:
        worker = WorkerRow(new_id(), "host-1", 4711, ["default"], 10)
        await beat(session, worker, held_ids=[], leased=[], running=2, draining=False, lease=LEASE)

    stats = await command("stats")

    titles = [part.splitlines()[0] for part in stats.text().split("\n\n")]
    assert titles == ["Queues", "Workers", "Open and discarded jobs", "Ended in the last hour"]
    shown = stats.model_dump(mode="json")
    assert [queue["counts"] for queue in shown["queues"]] == [{"available": 1}]
    assert [(row["host"], row["running"], row["is_alive"]) for row in shown["workers"]] == [("host-1", 2, True)]
    assert [(row["state"], row["count"]) for row in shown["jobs"]] == [("available", 1), ("discarded", 1)]
    assert [(row["state"], row["count"]) for row in shown["finished"]] == [("discarded", 1)]


async def test_stats_of_an_empty_ledger_say_none(command: Command) -> None:
    assert (await command("stats")).text().count("\nnone\n") == 4


def test_the_queues_of_a_worker_are_each_named_once() -> None:
    assert parse(["run", "--queues", "mail, default,mail"]).queues == ("mail", "default")
