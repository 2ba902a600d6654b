"""Commands about jobs with encrypted payloads."""

import base64
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app_db.jobs.encryption import PayloadKeys
from app_db.jobs.payload import JobPayload
from app_db.settings import DatabaseSettings
from app_db.types import new_id
from app_worker.command_line.arguments import parse
from app_worker.command_line.commands import execute
from app_worker.command_line.enqueue_commands import NotEnqueued, refusals_of
from app_worker.command_line.known_names import JobNotFound
from app_worker.command_line.output import Output
from app_worker.command_line.revealing import NotRevealed
from app_worker.context import JobContext
from app_worker.registry import Mode, handles
from app_worker.settings import CommandSettings
from app_worker.testing import drain, one_time_settings

from .conftest import Jobs

MARKER = "marker-4929-secret"
SECRET = os.urandom(32)

type Command = Callable[..., Awaitable[Output]]


class Charge(JobPayload, encrypted=True):
    kind = "test.charge"
    card: str = MARKER


@handles(Charge, mode=Mode.LEASE)
async def charge(job: JobContext, payload: Charge) -> str:
    async with job.step("authorise") as step:
        step.result = payload.card
    async with job.transaction(cursor=payload.card):
        pass
    return payload.card


def settings_with(database_settings: DatabaseSettings, **jobs: Any) -> CommandSettings:
    about = {"database": database_settings, "auth": one_time_settings(), "jobs": jobs}
    return CommandSettings.model_validate(about)


@pytest.fixture
def command(jobs: Jobs, database_settings: DatabaseSettings) -> Command:
    """Run a command line with the key of the test's process."""
    jobs.database.keep_secrets(PayloadKeys({"1": SECRET}, active="1"))
    keys = [{"kid": "1", "secret": base64.b64encode(SECRET).decode()}]

    async def command(*arguments: object) -> Output:
        return await execute(settings_with(database_settings, keys=keys), parse([str(each) for each in arguments]))

    return command


async def test_show_and_list_hide_what_reveal_shows(jobs: Jobs, command: Command) -> None:
    job_id = await jobs.enqueue(Charge())
    await drain(jobs.database, handlers=[charge])

    for hidden in (await command("show", job_id), await command("list")):
        assert MARKER not in hidden.text() + hidden.model_dump_json()
    shown = (await command("show", job_id)).model_dump(mode="json")
    assert shown["payload"] == shown["result"] == shown["cursor"] == {"encrypted": True}
    assert shown["steps"] == [{"name": "authorise", "result": {"encrypted": True}}]
    revealed = await command("reveal", job_id)
    assert revealed.model_dump(mode="json") == {
        "id": str(job_id), "kind": Charge.kind, "payload": {"card": MARKER}, "result": MARKER,
        "steps": [{"name": "authorise", "result": MARKER}], "cursor": MARKER,
    }  # fmt: skip
    assert MARKER in revealed.text()


async def test_who_reveals_a_job_is_audited(jobs: Jobs, command: Command) -> None:
    job_id = await jobs.enqueue(Charge())

    await command("reveal", job_id)

    details = await jobs.scalar("SELECT details::text FROM audit_events WHERE event = 'job_revealed'")
    assert f'"job": "{job_id}"' in details
    assert '"by": "shell"' in details
    assert MARKER not in details


async def test_nothing_is_revealed_without_the_key(
    jobs: Jobs, command: Command, database_settings: DatabaseSettings
) -> None:
    job_id = await jobs.enqueue(Charge())

    with pytest.raises(NotRevealed) as refused:
        await execute(settings_with(database_settings), parse(["reveal", str(job_id)]))

    assert "which is not in APP_JOBS__KEYS" in refused.value.reason()
    assert await jobs.scalar("SELECT count(*) FROM audit_events WHERE event = 'job_revealed'") == 0
    with pytest.raises(JobNotFound):
        await command("reveal", new_id())


def test_a_payload_that_a_command_refuses_shows_no_value_of_an_encrypted_kind() -> None:
    with pytest.raises(NotEnqueued) as refused, refusals_of(Charge):
        Charge.model_validate_json(f'{{"card": 7, "{MARKER}": 1}}')

    assert refused.value.reason() == "the payload of test.charge: card: string_type, payload: extra_forbidden"
