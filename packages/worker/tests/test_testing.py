"""The tools with which users test their own jobs."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
import structlog

from app_db import Database, Session
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.models import JobState
from app_db.types import utcnow
from app_worker.context import JobContext, Snooze
from app_worker.mail import MemoryMailer
from app_worker.outcome import NoHandler
from app_worker.registry import Handler, Mode, handles
from app_worker.testing import (
    DrainJobs,
    JobFailed,
    assert_enqueued,
    drain,
    inline,
    pytest_configure,
    refute_enqueued,
)

from .conftest import Jobs, Note


class Chain(JobPayload):
    """A job that enqueues another until there are no more links."""

    kind = "test.chain"
    links: int = 0


@handles(Chain)
async def follow(job: JobContext, payload: Chain) -> None:
    if payload.links:
        await enqueue(job.session, Chain(links=payload.links - 1), queue="other")


@handles(Note)
async def refuse(job: JobContext, payload: Note) -> None:
    raise ValueError(payload.text)


@handles(Note)
async def read(job: JobContext, payload: Note) -> str:
    return payload.text.upper()


async def in_an_hour(session: Session, payload: JobPayload, *, hours: int = 1) -> None:
    await enqueue(session, payload, run_at=utcnow() + timedelta(hours=hours))


async def test_draining_runs_what_jobs_enqueue_in_any_queue(jobs: Jobs) -> None:
    await jobs.enqueue(Chain(links=2))

    states = await drain(jobs.database, handlers=[follow])

    assert states == {"completed": 3}
    await refute_enqueued(jobs.database, Chain)


async def test_draining_runs_jobs_in_their_order(jobs: Jobs) -> None:
    order: list[str] = []

    @handles(Note)
    async def note_order(job: JobContext, payload: Note) -> None:
        order.append(payload.text)

    await jobs.enqueue(Note(text="second"))
    await jobs.enqueue(Note(text="third"))
    await jobs.enqueue(Note(text="first"), priority=0)

    await drain(jobs.database, handlers=[note_order])

    assert order == ["first", "second", "third"]


async def test_a_job_that_fails_fails_the_test_that_drains(jobs: Jobs) -> None:
    await jobs.enqueue(Note(text="broken"))

    with pytest.raises(JobFailed, match=r"(?s)test.note .*retryable.*ValueError: broken") as failed:
        await drain(jobs.database, handlers=[refuse])

    assert isinstance(failed.value.__cause__, ValueError)


async def test_a_job_without_a_handler_fails_the_test_that_drains(jobs: Jobs) -> None:
    await jobs.enqueue()

    with pytest.raises(JobFailed, match=r"NoHandler: test\.note") as failed:
        await drain(jobs.database, handlers=[])

    assert failed.value.__cause__ is None


async def test_failures_that_a_test_wants_are_counted(jobs: Jobs) -> None:
    await jobs.enqueue()
    await jobs.enqueue(max_attempts=1)
    await jobs.enqueue(Chain())

    states = await drain(jobs.database, handlers=[refuse, follow], keep_failures=True)

    assert states == {"retryable": 1, "discarded": 1, "completed": 1}


async def test_what_is_scheduled_stays_until_it_is_asked_for(database: Database) -> None:
    async with database.sessions.begin() as session:
        await in_an_hour(session, Chain())

    assert await drain(database, handlers=[follow]) == {}
    assert await drain(database, handlers=[follow], with_scheduled=True) == {"completed": 1}


async def test_what_would_be_due_by_a_time_runs_in_the_order_of_that_time(database: Database) -> None:
    order: list[str] = []

    @handles(Note)
    async def note_order(job: JobContext, payload: Note) -> None:
        order.append(payload.text)

    async with database.sessions.begin() as session:
        for hours in (3, 2, 1):
            await in_an_hour(session, Note(text=f"{hours} h"), hours=hours)

    await drain(database, handlers=[note_order], with_scheduled=utcnow() + timedelta(hours=2, minutes=1))

    assert order == ["1 h", "2 h"]


async def test_each_call_is_one_step_of_a_retry(jobs: Jobs) -> None:
    attempts: list[int] = []

    @handles(Note)
    async def fail_once(job: JobContext, payload: Note) -> None:
        attempts.append(job.attempt)
        if job.attempt == 1:
            raise ValueError

    await jobs.enqueue()
    await drain(jobs.database, handlers=[fail_once], keep_failures=True)

    states = await drain(jobs.database, handlers=[fail_once], with_scheduled=True)

    assert (states, attempts) == ({"completed": 1}, [1, 2])


async def test_a_job_that_snoozes_runs_once_in_each_call(jobs: Jobs) -> None:
    @handles(Note)
    async def snooze(job: JobContext, payload: Note) -> None:
        raise Snooze(timedelta(hours=1))

    await jobs.enqueue()

    for _ in range(2):
        assert await drain(jobs.database, handlers=[snooze], with_scheduled=True) == {"scheduled": 1}


async def test_a_job_that_deletes_its_own_row_is_not_counted(jobs: Jobs) -> None:
    @handles(Note)
    async def vanish(job: JobContext, payload: Note) -> None:
        await job.session.delete(await job.session.get_one(type(await jobs.get(job.id)), job.id))

    await jobs.enqueue()

    assert await drain(jobs.database, handlers=[vanish]) == {}


@pytest.fixture
def job_handlers(job_handlers: Iterable[Handler]) -> list[Handler]:
    return [*job_handlers, send_note, follow]


@handles(Note, mode=Mode.LEASE)
async def send_note(job: JobContext, payload: Note) -> dict[str, Any]:
    await job.set_progress({"step": "writing"})
    async with job.transaction() as session:
        await enqueue(session, Chain())
    await job.mails.send("welcome", to="ada@example.test", message_id=str(job.id), email=payload.text)
    return {"sent": True}


async def test_mails_of_jobs_that_were_drained_can_be_read(
    jobs: Jobs, drain_jobs: DrainJobs, mailer: MemoryMailer
) -> None:
    await jobs.enqueue()

    states = await drain_jobs()

    assert states == {"completed": 2}
    assert [mail["To"] for mail in mailer.sent] == ["ada@example.test"]


@pytest.mark.usefixtures("inline_jobs")
async def test_an_inline_job_has_run_when_enqueue_returns(session: Session, jobs: Jobs, mailer: MemoryMailer) -> None:
    job_id = await enqueue(session, Note())

    assert len(mailer.sent) == 1
    await session.commit()
    job = await jobs.get(job_id)
    assert (job.state, job.result, job.progress) == (JobState.COMPLETED, {"sent": True}, {"step": "writing"})


@pytest.mark.usefixtures("inline_jobs")
async def test_what_inline_jobs_do_is_rolled_back_with_their_caller(session: Session, jobs: Jobs) -> None:
    await enqueue(session, Note())

    await session.rollback()

    assert await jobs.scalar("SELECT count(*) FROM jobs") == 0


async def test_the_result_of_an_inline_job_in_tx_mode_is_kept(jobs: Jobs) -> None:
    with inline(jobs.database, handlers=[read]):
        async with jobs.database.sessions.begin() as session:
            job_id = await enqueue(session, Note(text="rex"))

    assert (await jobs.get(job_id)).result == "REX"


@pytest.mark.usefixtures("inline_jobs")
async def test_what_is_enqueued_for_later_does_not_run_inline(database: Database) -> None:
    async with database.sessions.begin() as session:
        await in_an_hour(session, Note())

    job = await assert_enqueued(database, Note)
    assert job.state is JobState.SCHEDULED


async def test_the_error_of_an_inline_job_comes_out_of_enqueue(database: Database) -> None:
    with inline(database, handlers=[refuse]):
        async with database.sessions() as session:
            with pytest.raises(ValueError, match="hello"):
                await enqueue(session, Note())


async def test_an_inline_job_without_a_handler_is_an_error(database: Database) -> None:
    with inline(database, handlers=[]):
        async with database.sessions() as session:
            with pytest.raises(NoHandler):
                await enqueue(session, Note())


async def test_jobs_wait_again_after_the_block_that_runs_them_inline(jobs: Jobs) -> None:
    with inline(jobs.database, handlers=[read]):
        pass

    await jobs.enqueue()

    await assert_enqueued(jobs.database, Note)


def test_a_test_that_has_chosen_how_to_log_keeps_it() -> None:
    chosen = structlog.get_config()["processors"]

    pytest_configure()

    assert structlog.get_config()["processors"] is chosen
