"""The fields of the job on each log line about it."""

from uuid import UUID

import structlog
from structlog.testing import capture_logs

from app_db import Database
from app_db.jobs.outbox import enqueue
from app_db.types import new_id
from app_worker.context import JobContext
from app_worker.registry import handles

from .conftest import Jobs, MakeRunner, Note

log = structlog.get_logger(__name__)


@handles(Note)
async def say_it(job: JobContext, payload: Note) -> None:
    """Log a line."""
    log.info("note_taken")


async def enqueue_as(database: Database, owner_id: UUID, request_id: str) -> UUID:
    async with database.unit_of_work(request_id=request_id) as session:
        return await enqueue(session, Note(), owner_id=owner_id)


async def test_what_a_handler_logs_names_the_request_and_the_user_that_it_is_for(
    database: Database, jobs: Jobs, make_runner: MakeRunner
) -> None:
    owner_id = new_id()
    job_id = await enqueue_as(database, owner_id, "r1")
    delivery = await jobs.dispatch(job_id)

    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await make_runner(say_it).run(delivery)

    (line,) = [line for line in lines if line["event"] == "note_taken"]
    assert {name: line[name] for name in ("job_id", "kind", "attempt", "request_id", "user_id")} == {
        "job_id": str(job_id),
        "kind": Note.kind,
        "attempt": 1,
        "request_id": "r1",
        "user_id": str(owner_id),
    }


async def test_a_line_after_a_job_is_not_about_it(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver()
    before = structlog.contextvars.get_contextvars()

    await make_runner(say_it).run(delivery)

    assert structlog.contextvars.get_contextvars() == before
