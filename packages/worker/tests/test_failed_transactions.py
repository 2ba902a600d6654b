"""A handler that catches a database error outside of a savepoint has failed, and its job says at what.

PostgreSQL answers the COMMIT of such a transaction with ROLLBACK and no error ("COMMIT", Notes).
"""

from contextlib import suppress

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app_db import Database, Session
from app_db.models import JobQueue, JobState
from app_worker.context import JobContext
from app_worker.registry import Handler, Mode, handles

from .conftest import Jobs, MakeRunner, Note

QUEUE = text("INSERT INTO job_queues (name) VALUES ('mail')")


async def write_twice(session: Session) -> None:
    await session.execute(QUEUE)
    with suppress(DBAPIError):
        await session.execute(QUEUE)


@handles(Note)
async def in_tx_mode(job: JobContext, payload: Note) -> None:
    await write_twice(job.session)


@handles(Note, mode=Mode.LEASE)
async def in_a_transaction(job: JobContext, payload: Note) -> None:
    async with job.transaction() as session:
        await write_twice(session)


@handles(Note, mode=Mode.LEASE)
async def in_the_last_transaction(job: JobContext, payload: Note) -> None:
    async with job.last_transaction() as session:
        await write_twice(session)


@pytest.mark.parametrize("handler", [in_tx_mode, in_a_transaction, in_the_last_transaction])
async def test_a_job_whose_commit_rolled_back_is_a_failed_attempt_that_names_the_error(
    jobs: Jobs, make_runner: MakeRunner, handler: Handler
) -> None:
    delivery = await jobs.deliver()
    runner = make_runner(handler)

    await runner.run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.RETRYABLE, 1)
    (error,) = await jobs.errors(delivery)
    assert "caught outside of a savepoint: UniqueViolationError: duplicate key" in error.error
    assert await jobs.scalar("SELECT count(*) FROM job_queues WHERE name = 'mail'") == 0


async def lose_the_connection(session: Session, database: Database) -> None:
    """Lose the connection before a flush and catch the error; later SQLAlchemy names the error only in its message."""
    pid = await session.scalar(text("SELECT pg_backend_pid()"))
    async with database.sessions() as other:
        await other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    session.add(JobQueue(name="mail"))
    with suppress(DBAPIError):
        await session.flush()


@handles(Note)
async def loses_it_in_tx_mode(job: JobContext, payload: Note) -> None:
    await lose_the_connection(job.session, job.database)


@handles(Note, mode=Mode.LEASE)
async def loses_it_in_a_transaction(job: JobContext, payload: Note) -> None:
    async with job.transaction() as session:
        await lose_the_connection(session, job.database)


@pytest.mark.parametrize("handler", [loses_it_in_tx_mode, loses_it_in_a_transaction])
async def test_a_job_that_catches_the_loss_of_its_connection_at_a_flush_pays_no_attempt(
    jobs: Jobs, make_runner: MakeRunner, handler: Handler
) -> None:
    delivery = await jobs.deliver()

    await make_runner(handler).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.RETRYABLE, 0)


async def test_an_error_in_a_savepoint_may_be_caught(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def careful(job: JobContext, payload: Note) -> None:
        await job.session.execute(QUEUE)
        with suppress(DBAPIError):
            async with job.session.begin_nested():
                await job.session.execute(QUEUE)

    delivery = await jobs.deliver()

    await make_runner(careful).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.COMPLETED
    assert await jobs.scalar("SELECT count(*) FROM job_queues WHERE name = 'mail'") == 1


async def test_a_handler_cannot_end_the_transaction_of_its_job(jobs: Jobs, make_runner: MakeRunner) -> None:
    """A rollback takes back the completion too: the job would be counted as completed, and run again and again."""

    @handles(Note)
    async def gives_up(job: JobContext, payload: Note) -> None:
        await job.session.execute(QUEUE)
        await job.session.rollback()

    delivery = await jobs.deliver()

    await make_runner(gives_up).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.RETRYABLE, 1)
    (error,) = await jobs.errors(delivery)
    assert "the transaction was ended before its edge committed it" in error.error


async def test_a_leased_handler_cannot_end_the_transaction_that_holds_its_job(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def goes_on(job: JobContext, payload: Note) -> None:
        async with job.transaction() as session:
            await session.rollback()
            await session.execute(QUEUE)  # while another delivery may run

    delivery = await jobs.deliver()

    await make_runner(goes_on).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.RETRYABLE
    assert await jobs.scalar("SELECT count(*) FROM job_queues WHERE name = 'mail'") == 0
