"""The command `rerun`: a new job like another one."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from app_db.features.accounts.payloads import WelcomeEmail
from app_db.settings import DatabaseSettings
from app_db.types import new_id
from app_worker.command_line.arguments import parse
from app_worker.command_line.commands import execute
from app_worker.command_line.enqueue_commands import NotEnqueued
from app_worker.command_line.known_names import JobNotFound, NameNotFound
from app_worker.settings import CommandSettings
from app_worker.testing import one_time_settings

from .conftest import Jobs

ADA, BOB = new_id(), new_id()

type Command = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def command(jobs: Jobs, database_settings: DatabaseSettings) -> Command:
    """Run a command line on the database of the test; return the document that `--json` prints."""
    settings = CommandSettings.model_validate({"database": database_settings, "auth": one_time_settings()})

    async def command(*arguments: object) -> dict[str, Any]:
        output = await execute(settings, parse([str(argument) for argument in arguments]))
        return output.model_dump(mode="json")

    return command


async def test_a_job_is_run_again_with_its_payload_and_its_terms(jobs: Jobs, command: Command) -> None:
    terms: dict[str, Any] = {"queue": "mail", "priority": 7, "max_attempts": 3, "owner_id": ADA}
    first = await jobs.enqueue(WelcomeEmail(user_id=ADA), **terms)

    new = await jobs.get(UUID((await command("rerun", first))["id"]))

    assert (new.payload, new.origin_id) == ({"user_id": str(ADA)}, first)
    assert {name: getattr(new, name) for name in terms} == terms


async def test_a_job_is_run_again_with_another_payload(jobs: Jobs, command: Command) -> None:
    first = await jobs.enqueue(WelcomeEmail(user_id=ADA))

    document = await command("rerun", first, "--payload", f'{{"user_id": "{BOB}"}}')

    assert (await jobs.get(UUID(document["id"]))).payload == {"user_id": str(BOB)}
    with pytest.raises(NotEnqueued, match="user_id: Field required"):
        await command("rerun", first, "--payload", "{}")


async def test_show_names_the_first_job_and_its_reruns(jobs: Jobs, command: Command) -> None:
    first = await jobs.enqueue(WelcomeEmail(user_id=ADA))
    second = (await command("rerun", first))["id"]

    shown, made = await command("show", first), await command("show", second)

    assert (shown["origin_id"], shown["origin_deleted"], shown["reruns"]) == (None, False, [second])
    assert (made["origin_id"], made["origin_deleted"], made["reruns"]) == (str(first), False, [])
    await jobs.execute(f"DELETE FROM jobs WHERE id = '{first}'")
    left = await command("show", second)
    assert (left["origin_id"], left["origin_deleted"]) == (str(first), True)


async def test_a_job_that_a_command_runs_again_is_audited(jobs: Jobs, command: Command) -> None:
    first = await jobs.enqueue(WelcomeEmail(user_id=ADA))

    second = (await command("rerun", first))["id"]

    details = await jobs.scalar("SELECT details::text FROM audit_events WHERE event = 'job_rerun'")
    for said in (f'"job": "{second}"', f'"origin": "{first}"', '"by": "shell"', '"kind": "email.welcome"'):
        assert said in details


async def test_a_job_that_this_release_cannot_read_is_not_run_again(jobs: Jobs, command: Command) -> None:
    unknown, newer = await jobs.enqueue(), await jobs.enqueue(WelcomeEmail(user_id=ADA))
    await jobs.execute(f"UPDATE jobs SET payload_version = 9 WHERE id = '{newer}'")

    with pytest.raises(NameNotFound):
        await command("rerun", unknown)
    with pytest.raises(JobNotFound):
        await command("rerun", new_id())
    with pytest.raises(NotEnqueued, match="deploy the newer worker"):
        await command("rerun", newer)
