"""The commands that look at batches and chains, and act on them."""

from uuid import UUID

import pytest
import pytest_asyncio

from app_db.jobs.batches import enqueue_batch, enqueue_chain
from app_db.types import new_id
from app_worker.command_line import batch_commands
from app_worker.command_line.batch_commands import BatchNotFound
from app_worker.context import Discard, JobContext
from app_worker.registry import handles
from app_worker.testing import drain

from .conftest import Jobs, Note
from .test_commands import Command, command, document_of

__all__ = ["command"]


@handles(Note)
async def works_unless_bad(job: JobContext, payload: Note) -> None:
    if payload.text == "bad":
        raise Discard("it is bad")


@pytest_asyncio.fixture(loop_scope="session")
async def batch_id(jobs: Jobs) -> UUID:
    """A batch of two jobs, one of which has failed."""
    async with jobs.database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, [Note(), Note(text="bad")])
    await drain(jobs.database, handlers=[works_unless_bad], keep_failures=True)
    return batch_id


async def test_batches_are_listed_and_shown(command: Command, jobs: Jobs, batch_id: UUID) -> None:
    async with jobs.database.unit_of_work() as session:
        chain_id = await enqueue_chain(session, Note(), Note())

    listed = await document_of(command, "batches", "list", "--limit", 1)
    rest = await command("batches", "list", "--after", listed["next"])
    shown = await document_of(command, "batches", "show", batch_id)

    assert [row["id"] for row in listed["items"]] == [str(chain_id)]
    assert str(batch_id) in rest.text()
    assert f"more: --after {listed['next']}" in (await command("batches", "list", "--limit", 1)).text()
    assert (shown["state"], shown["total"], shown["completed"], shown["discarded"]) == ("failed", 2, 1, 1)
    assert "failed_id" in (await command("batches", "show", batch_id)).text()


async def test_the_failed_jobs_of_a_batch_are_listed_and_retried(
    command: Command, jobs: Jobs, batch_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_commands, "AT_ONCE", 1)
    failed = await document_of(command, "batches", "jobs", batch_id, "--state", "discarded")
    assert len(failed["items"]) == 1

    assert (await command("batches", "retry", batch_id)).text() == "retried: 1 job\n"

    assert await drain(jobs.database, handlers=[works_unless_bad], keep_failures=True) == {"discarded": 1}


async def test_a_batch_is_cancelled(command: Command, jobs: Jobs) -> None:
    async with jobs.database.unit_of_work() as session:
        batch_id = await enqueue_chain(session, Note(), Note())

    shown = await document_of(command, "batches", "cancel", batch_id)

    assert (shown["state"], shown["cancelled"], shown["is_chain"]) == ("cancelled", 1, True)


@pytest.mark.parametrize("action", ["show", "jobs", "cancel", "retry"])
async def test_an_unknown_batch_is_refused(command: Command, action: str) -> None:
    with pytest.raises(BatchNotFound):
        await command("batches", action, new_id())
