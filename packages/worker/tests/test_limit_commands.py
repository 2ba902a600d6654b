"""The commands that show the limits of kinds, and set others."""

import pytest
import pytest_asyncio

from app_db.jobs import limit_control
from app_db.jobs.limits import Limit
from app_db.jobs.payload import JobPayload
from app_worker.command_line.known_names import NameNotFound

from .conftest import Jobs
from .test_commands import Command, command, document_of

__all__ = ["command"]


class Call(JobPayload, limit=Limit(running=2, rate="100/m", per="clinic")):
    """A job with a limit."""

    kind = "test.call"
    clinic: str = "ann"


@pytest_asyncio.fixture(loop_scope="session")
async def declared(jobs: Jobs) -> None:
    """A worker has declared a limit."""
    async with jobs.database.unit_of_work() as session:
        await limit_control.declare(session, [Call])


@pytest.mark.usefixtures("declared")
async def test_limits_are_listed_set_in_part_and_reset(command: Command, jobs: Jobs) -> None:
    shown = (await command("limits", "list")).text()
    faster = await document_of(command, "limits", "set", "test.call", "--running", 4)
    slower = await document_of(command, "limits", "set", "test.call", "--running", "none", "--rate", "5/h")
    reset = await document_of(command, "limits", "reset", "test.call")

    assert "test.call  clinic        2  100/m" in shown
    assert [(row["running"], row["rate"]) for each in (faster, slower, reset) for row in each["limits"]] == [
        (4, "100/m"), (None, "5/h"), (2, "100/m"),
    ]  # fmt: skip
    assert (slower["limits"][0]["set_by"], reset["limits"][0]["set_at"]) == ("shell", None)
    assert await jobs.scalar("SELECT count(*) FROM audit_events WHERE event = 'kind_limited'") == 3


@pytest.mark.usefixtures("declared")
async def test_a_rate_is_lifted(command: Command) -> None:
    lifted = await document_of(command, "limits", "set", "test.call", "--rate", "none")

    assert (lifted["limits"][0]["running"], lifted["limits"][0]["rate"]) == (2, None)


@pytest.mark.usefixtures("declared")
async def test_a_limit_that_nothing_has_is_refused_with_the_likely_one(command: Command) -> None:
    with pytest.raises(NameNotFound) as refused:
        await command("limits", "set", "test.cal", "--running", 1)

    assert "test.call" in refused.value.reason()


async def test_a_rate_that_is_none_is_bad_usage(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        await command("limits", "set", "test.call", "--rate", "5/w")

    assert "a rate is as 100/m" in capsys.readouterr().err
