"""Every way in which a handler can end is the end of one attempt, and of nothing else."""

import asyncio
import sys
import time
from datetime import timedelta

import pytest
from sqlalchemy import text

from app_db import open_database
from app_db.jobs.payload import UnknownPayload
from app_db.models import JobState
from app_db.settings import DatabaseSettings
from app_worker import context
from app_worker.context import JobContext, Snooze
from app_worker.outcome import NoHandler
from app_worker.registry import Mode, handles
from app_worker.threads import use_threads

from .conftest import Jobs, MakeRunner, Note, eventually, until


@pytest.mark.parametrize("mode", Mode)
async def test_a_handler_that_cancels_itself_fails(jobs: Jobs, make_runner: MakeRunner, mode: Mode) -> None:
    """Some versions of anyio and asyncpg call `current_task().cancel()`, which is none of our stops."""

    @handles(Note, mode=mode, max_attempts=2)
    async def cancels(job: JobContext, payload: Note) -> None:
        this = asyncio.current_task()
        assert this is not None
        this.cancel()
        await asyncio.sleep(0)

    runner = make_runner(cancels)
    delivery = await jobs.deliver()

    await runner.run(delivery)
    first = await jobs.get(delivery)
    await runner.run(await jobs.dispatch(delivery.id))

    assert (first.state, first.attempt) == (JobState.RETRYABLE, 1)
    assert (await jobs.get(delivery)).state is JobState.DISCARDED
    assert {error.error.partition(":")[0] for error in await jobs.errors(delivery)} == {
        "app_worker.invocation.HandlerCancelled"
    }
    this = asyncio.current_task()
    assert this is not None
    assert this.cancelling() == 0


@pytest.mark.parametrize("mode", Mode)
async def test_a_handler_that_cancelled_itself_and_returned_has_completed(
    jobs: Jobs, make_runner: MakeRunner, mode: Mode
) -> None:
    @handles(Note, mode=mode)
    async def cancels(job: JobContext, payload: Note) -> str:
        this = asyncio.current_task()
        assert this is not None
        this.cancel()
        return "done"

    delivery = await jobs.deliver()

    await make_runner(cancels).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.result) == (JobState.COMPLETED, "done")


class Strange(BaseException):
    """An exception that nobody expects."""


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("^C"), GeneratorExit("x"), Strange("x")], ids=repr)
async def test_whatever_a_handler_raises_is_one_failed_attempt(
    jobs: Jobs, make_runner: MakeRunner, mode: Mode, error: BaseException
) -> None:
    """arq 0.28 ends with the SystemExit of a job, and so does every event loop."""

    @handles(Note, mode=mode)
    async def raises(job: JobContext, payload: Note) -> None:
        if mode is Mode.LEASE:
            async with job.transaction() as session:
                await session.execute(text("SELECT 1"))
                raise error
        raise error

    delivery = await jobs.deliver()

    await make_runner(raises).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.RETRYABLE, 1)
    (recorded,) = await jobs.errors(delivery)
    assert recorded.error == f"app_worker.threads.HandlerExited: {type(error).__name__}: {error}"
    assert recorded.trace is not None
    assert "raise error" in recorded.trace


async def test_a_task_of_a_handler_cannot_end_the_loop(jobs: Jobs, make_runner: MakeRunner) -> None:
    """CPython's `Task.__step` raises SystemExit and KeyboardInterrupt out of `run_forever`, even if it is awaited."""
    loop = asyncio.get_running_loop()

    @handles(Note, mode=Mode.LEASE)
    async def exits(job: JobContext, payload: Note) -> None:
        async def of_a_library() -> None:
            await asyncio.sleep(0)
            sys.exit(3)

        waits = asyncio.create_task(asyncio.Event().wait())
        never_begins = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        waits.cancel()
        never_begins.cancel()
        await asyncio.create_task(of_a_library())

    delivery = await jobs.deliver()
    use_threads(["test.note"])
    try:
        await make_runner(exits).run(delivery)
    finally:
        loop.set_task_factory(None)

    (recorded,) = await jobs.errors(delivery)
    assert recorded.error == "app_worker.threads.HandlerExited: SystemExit: 3"


@pytest.mark.parametrize("error", [UnknownPayload("of another job"), NoHandler("of another job")], ids=repr)
async def test_what_a_handler_raises_in_our_name_costs_an_attempt(
    jobs: Jobs, make_runner: MakeRunner, error: Exception
) -> None:
    @handles(Note, max_attempts=1)
    async def raises(job: JobContext, payload: Note) -> None:
        raise error

    delivery = await jobs.deliver()

    await make_runner(raises).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.DISCARDED


async def test_a_snooze_is_a_second_long_at_least(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def not_now(job: JobContext, payload: Note) -> None:
        raise Snooze(timedelta(seconds=-5))

    delivery = await jobs.deliver()

    await make_runner(not_now).run(delivery)

    job = await jobs.get(delivery)
    assert job.state is JobState.SCHEDULED
    assert await jobs.scalar("SELECT claim_at > now() + interval '0.5 s' FROM jobs")


async def test_a_time_out_of_the_handler_itself_stays_its_own(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def waits_for_others(job: JobContext, payload: Note) -> None:
        raise TimeoutError("the other side is silent")

    delivery = await jobs.deliver()

    await make_runner(waits_for_others).run(delivery)

    (recorded,) = await jobs.errors(delivery)
    assert recorded.error == "TimeoutError: the other side is silent"


async def test_a_time_limit_is_named(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE, timeout=timedelta(seconds=0.05))
    async def is_slow(job: JobContext, payload: Note) -> None:
        await asyncio.sleep(60)

    delivery = await jobs.deliver()

    await make_runner(is_slow).run(delivery)

    (recorded,) = await jobs.errors(delivery)
    named = "app_worker.invocation.HandlerTimeout: the handler took longer than its timeout of 0:00:00.050000"
    assert recorded.error == named


async def ended(jobs: Jobs, pid: int) -> None:
    """Wait until Postgres has ended this connection, and its last words have arrived."""
    await eventually(lambda: jobs.scalar(f"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})"))


@pytest.mark.parametrize("writes_at_the_end", [True, False])
@pytest.mark.parametrize("opens", ["transaction", "last_transaction"])
async def test_a_transaction_that_waits_too_long_is_a_failure_of_its_handler(
    jobs: Jobs, make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch, opens: str, writes_at_the_end: bool
) -> None:
    """asyncpg 0.32 shows PostgreSQL's 25P03 as a lost connection (08003), or as an InterfaceError."""
    monkeypatch.setattr(context, "IDLE", timedelta(seconds=0.2))

    @handles(Note, mode=Mode.LEASE, max_attempts=1)
    async def idles(job: JobContext, payload: Note) -> None:
        async with getattr(job, opens)() as session:
            await ended(jobs, await session.scalar(text("SELECT pg_backend_pid()")))
            if writes_at_the_end:
                await session.execute(text("SELECT 1"))

    delivery = await jobs.deliver()

    await make_runner(idles).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.DISCARDED, 1)
    (recorded,) = await jobs.errors(delivery)
    assert "reached its idle_in_transaction_session_timeout" in recorded.error


async def test_a_connection_that_is_lost_in_a_transaction_costs_no_attempt(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE, max_attempts=1)
    async def loses(job: JobContext, payload: Note) -> None:
        async with job.transaction() as session:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    delivery = await jobs.deliver()

    await make_runner(loses).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.RETRYABLE, 0)


async def test_a_job_that_loses_its_connection_again_and_again_waits_longer(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    @handles(Note, mode=Mode.LEASE, max_attempts=1)
    async def loses(job: JobContext, payload: Note) -> None:
        async with job.transaction() as session:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    runner = make_runner(loses)
    delivery = await jobs.deliver()
    for _ in range(5):
        await runner.run(delivery)
        delivery = await jobs.dispatch(delivery.id)

    await runner.run(delivery)

    assert await jobs.scalar("SELECT claim_at > now() + interval '10 s' FROM jobs")
    assert (await jobs.get(delivery)).attempt == 0


async def test_a_tx_handler_that_blocked_the_loop_beyond_its_time_has_failed(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    """PostgreSQL's transaction_timeout ends its transaction, and asyncpg shows a lost connection."""

    @handles(Note, timeout=timedelta(seconds=0.1), max_attempts=1)
    async def blocks(job: JobContext, payload: Note) -> None:
        time.sleep(2.5)  # noqa: ASYNC251  # that is the fault

    delivery = await jobs.deliver()
    limited = database_settings.model_copy(update={"transaction_timeout": timedelta(seconds=2)})
    async with open_database(limited, name="test") as database:
        await make_runner(blocks, database=database).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.DISCARDED
    (recorded,) = await jobs.errors(delivery)
    assert "reached its transaction_timeout" in recorded.error


async def test_a_job_that_is_cancelled_by_its_worker_says_so_to_nobody(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def waits(job: JobContext, payload: Note) -> None:
        await asyncio.Event().wait()

    runner = make_runner(waits)
    delivery = await jobs.deliver()
    task = asyncio.create_task(runner.run(delivery))
    await until(lambda: runner.lease_tasks)

    runner.cancel(delivery)
    await asyncio.wait([task])

    assert await jobs.errors(delivery) == []
    assert runner.cancelled == set()


@pytest.mark.parametrize("mode", Mode)
async def test_a_payload_with_a_number_that_python_refuses_to_read_is_a_failure(
    jobs: Jobs, make_runner: MakeRunner, mode: Mode
) -> None:
    """Only SQL can write it, and no release can read it: it uses up its attempts, as any error does."""

    @handles(Note, mode=mode)
    async def never(job: JobContext, payload: Note) -> None: ...

    runner = make_runner(never)
    delivery = await jobs.deliver(max_attempts=1)
    async with jobs.database.sessions.begin() as session:
        await session.execute(text(f"""UPDATE jobs SET payload = '{{"n": {"9" * 5000}}}'"""))

    await runner.run(delivery)

    assert await jobs.scalar("SELECT state FROM jobs") == JobState.DISCARDED
    (error,) = await jobs.errors(delivery)
    assert "4300 digits" in error.error
