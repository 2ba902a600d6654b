"""Jobs in tx mode: the handler's writes and the end of the job are one commit."""

import asyncio
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from app_db.jobs.ledger import UNMARKED_REDELIVERIES
from app_db.models import JobState, User
from app_db.settings import DatabaseSettings
from app_db.types import utcnow
from app_worker.context import JobContext
from app_worker.registry import handles

from .conftest import Jobs, MakeRunner, Note, are_waiting, eventually, until
from .proxy import Proxy, over


@handles(Note, backoff=lambda attempt: timedelta(hours=attempt), max_attempts=3)
async def add_user(job: JobContext, payload: Note) -> None:
    """Write something; then fail if asked to."""
    user = User(id=job.id, email=payload.text, email_canonical=payload.text, password_hash="-")
    job.session.add(user)
    await job.session.flush()
    if payload.text == "fail":
        raise RuntimeError("no luck")


async def user_exists(jobs: Jobs, user_id: object) -> bool:
    return bool(await jobs.scalar(f"SELECT count(*) FROM users WHERE id = '{user_id}'"))


# Raise the fence, as a relay's claim does, at the worst moment.
LOSE_WHEN_MARKED = """
    CREATE FUNCTION lose_when_marked() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.fence = NEW.fence + 1; RETURN NEW; END $$
"""
WHEN_MARKED = """
    CREATE TRIGGER lose_when_marked BEFORE UPDATE ON jobs FOR EACH ROW
        WHEN (NEW.state = 'executing') EXECUTE FUNCTION lose_when_marked()
"""


async def test_a_tx_job_commits_with_its_effect(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver()
    runner = make_runner(add_user)

    await runner.run(delivery)

    job = await jobs.get(delivery)
    assert await user_exists(jobs, delivery.id)
    assert (job.state, job.attempt, job.claim_at) == (JobState.COMPLETED, 1, None)
    assert job.worker_id == runner.worker_id
    assert job.started_at is not None
    assert job.finished_at is not None


async def test_a_tx_job_that_fails_leaves_nothing_but_its_error(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver(Note(text="fail"))

    await make_runner(add_user).run(delivery)

    assert not await user_exists(jobs, delivery.id)
    (error,) = await jobs.errors(delivery)
    assert (error.attempt, error.error) == (1, "RuntimeError: no luck")
    assert error.trace is not None
    assert "in add_user" in error.trace


async def test_a_failed_job_is_tried_again_after_its_backoff(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver(Note(text="fail"))

    await make_runner(add_user).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt, job.finished_at) == (JobState.RETRYABLE, 1, None)
    assert job.claim_at is not None
    assert timedelta(minutes=50) < job.claim_at - utcnow() <= timedelta(hours=1)


async def test_a_job_that_has_failed_too_often_is_discarded_and_kept(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver(Note(text="fail"))
    runner = make_runner(add_user)

    for _ in range(3):
        await runner.run(delivery)
        if (await jobs.get(delivery)).state is not JobState.DISCARDED:
            delivery = await jobs.dispatch(delivery.id)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt, job.claim_at) == (JobState.DISCARDED, 3, None)
    assert job.finished_at is not None
    assert [error.attempt for error in await jobs.errors(delivery)] == [1, 2, 3]


async def test_the_limit_of_the_job_wins_over_the_limit_of_its_handler(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver(Note(text="fail"), max_attempts=1)

    await make_runner(add_user).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.DISCARDED


async def test_a_stale_delivery_is_dropped(jobs: Jobs, make_runner: MakeRunner) -> None:
    stale = await jobs.deliver()
    current = await jobs.dispatch(stale.id)

    await make_runner(add_user).run(stale)

    job = await jobs.get(current)
    assert (job.state, job.fence, job.attempt, job.redeliveries) == (JobState.DISPATCHED, 2, 0, 1)
    assert not await user_exists(jobs, stale.id)


async def test_a_second_delivery_of_a_running_tx_job_waits_and_then_finds_nothing(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    started, released = asyncio.Event(), asyncio.Event()
    runs = []

    @handles(Note)
    async def slow(job: JobContext, payload: Note) -> None:
        runs.append(job.attempt)
        started.set()
        await released.wait()

    delivery = await jobs.deliver()
    runner = make_runner(slow)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(runner.run(delivery))
        await started.wait()
        tasks.create_task(runner.run(delivery))
        await eventually(lambda: are_waiting(jobs, 1))
        released.set()

    assert runs == [1]
    assert (await jobs.get(delivery)).state is JobState.COMPLETED


async def test_no_relay_takes_a_tx_job_while_it_runs(jobs: Jobs, make_runner: MakeRunner) -> None:
    redelivered: list[UUID] = []

    @handles(Note)
    async def overdue(job: JobContext, payload: Note) -> None:
        async with jobs.database.sessions() as session:
            claim = "SELECT id FROM jobs WHERE claim_at <= now() + interval '1 hour' FOR UPDATE SKIP LOCKED"
            redelivered.extend(await session.scalars(text(claim)))

    await make_runner(overdue).run(await jobs.deliver())

    assert redelivered == []


async def test_a_job_that_takes_too_long_has_failed(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, timeout=timedelta(milliseconds=1))
    async def endless(job: JobContext, payload: Note) -> None:
        await asyncio.Event().wait()

    delivery = await jobs.deliver()

    await make_runner(endless).run(delivery)

    (error,) = await jobs.errors(delivery)
    assert error.error.startswith("app_worker.invocation.HandlerTimeout: the handler took longer than its timeout of ")


async def test_a_job_of_an_unknown_kind_waits_for_a_newer_worker_and_loses_no_attempt(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    delivery = await jobs.deliver(max_attempts=1)
    for _ in range(2):
        await make_runner().run(delivery)
        delivery = await jobs.dispatch(delivery.id)

    (error,) = await jobs.errors(delivery)
    assert error.error == "app_worker.outcome.NoHandler: test.note"
    await make_runner(add_user).run(delivery)
    assert (await jobs.get(delivery)).state is JobState.COMPLETED


async def test_a_payload_that_its_class_refuses_is_kept_and_reported(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver(max_attempts=1)
    async with jobs.database.sessions.begin() as session:
        await session.execute(text("""UPDATE jobs SET payload = '{"txt": "of an older version"}'"""))

    await make_runner(add_user).run(delivery)

    (error,) = await jobs.errors(delivery)
    assert "txt" in error.error
    assert (await jobs.get(delivery)).state is JobState.RETRYABLE


async def test_what_a_handler_puts_into_its_error_cannot_keep_it_off_the_record(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    @handles(Note)
    async def raise_binary(job: JobContext, payload: Note) -> None:
        raise RuntimeError("NUL \0 and half a character \ud800")

    delivery = await jobs.deliver()

    await make_runner(raise_binary).run(delivery)

    (error,) = await jobs.errors(delivery)
    assert error.error == r"RuntimeError: NUL \x00 and half a character \ud800"


async def test_a_handler_that_cancels_a_task_of_its_own_has_failed(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def cancels(job: JobContext, payload: Note) -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    delivery = await jobs.deliver()

    await make_runner(cancels).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.RETRYABLE
    (error,) = await jobs.errors(delivery)
    assert error.error.startswith("app_worker.invocation.HandlerCancelled: ")


async def test_a_tx_job_of_a_worker_that_stops_is_given_back(jobs: Jobs, make_runner: MakeRunner) -> None:
    started = asyncio.Event()

    @handles(Note)
    async def endless(job: JobContext, payload: Note) -> None:
        job.session.add(User(id=job.id, email="x", email_canonical="x", password_hash="-"))
        await job.session.flush()
        started.set()
        await asyncio.Event().wait()

    delivery = await jobs.deliver()
    runner = make_runner(endless)
    task = asyncio.create_task(runner.run(delivery))
    await started.wait()

    runner.stop()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.AVAILABLE, 0)
    assert not await user_exists(jobs, delivery.id)


async def test_a_worker_that_stops_leaves_a_job_alone_that_it_has_not_started(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    delivery = await jobs.deliver()
    async with jobs.database.sessions.begin() as session:
        await session.execute(text("SELECT 1 FROM jobs FOR UPDATE"))
        task = asyncio.create_task(make_runner(add_user).run(delivery))
        await eventually(lambda: are_waiting(jobs, 1))

        task.cancel()
        await asyncio.wait([task])

    assert task.cancelled()
    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.DISPATCHED, 0)


async def test_a_handler_in_tx_mode_cannot_open_a_second_transaction(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def nested(job: JobContext, payload: Note) -> None:
        async with job.transaction():
            raise AssertionError("a second connection, which would wait for the first")

    delivery = await jobs.deliver()

    await make_runner(nested).run(delivery)

    (error,) = await jobs.errors(delivery)
    assert "a handler in tx mode has locked the row of its job" in error.error


async def test_a_handler_in_tx_mode_has_no_progress(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def reports(job: JobContext, payload: Note) -> None:
        await job.set_progress(1)

    delivery = await jobs.deliver()

    await make_runner(reports).run(delivery)

    (error,) = await jobs.errors(delivery)
    assert "has no progress" in error.error


async def test_a_commit_that_fails_is_a_failed_attempt(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def ends_its_connection(job: JobContext, payload: Note) -> None:
        (pid,) = await job.session.scalars(text("SELECT pg_backend_pid()"))
        async with job.database.sessions() as session:
            await session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    delivery = await jobs.deliver()

    await make_runner(ends_its_connection).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.RETRYABLE
    assert len(await jobs.errors(delivery)) == 1


async def test_a_commit_whose_answer_is_lost_counts_as_what_it_did(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:

        @handles(Note)
        async def loses_the_answer(job: JobContext, payload: Note) -> None:
            await add_user.function(job, payload)
            proxy.cut_at = b"COMMIT"

        delivery = await jobs.deliver()

        await make_runner(loses_the_answer, database=database).run(delivery)

    assert await user_exists(jobs, delivery.id)
    assert (await jobs.get(delivery)).state is JobState.COMPLETED
    assert await jobs.errors(delivery) == []


async def test_a_job_that_cannot_be_started_for_want_of_a_database_waits(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    delivery = await jobs.deliver()
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        await proxy.cut()

        await make_runner(add_user, database=database, lease=timedelta(seconds=1)).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.DISPATCHED, 0)


async def test_a_tx_job_whose_failure_cannot_be_recorded_comes_back(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:

        @handles(Note)
        async def fails_with_the_database(job: JobContext, payload: Note) -> None:
            await proxy.cut()
            raise RuntimeError

        delivery = await jobs.deliver()

        await make_runner(fails_with_the_database, database=database, lease=timedelta(seconds=1)).run(delivery)

    again = await jobs.dispatch(delivery.id)
    await make_runner(add_user).run(again)
    assert (await jobs.get(again)).state is JobState.COMPLETED


async def test_what_a_tx_handler_returns_is_the_result_of_the_job(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def count(job: JobContext, payload: Note) -> int:
        return len(payload.text)

    delivery = await jobs.deliver()

    await make_runner(count).run(delivery)

    assert (await jobs.get(delivery)).result == 5


async def test_a_job_that_led_to_nothing_twice_is_on_record_before_its_handler_runs(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    seen = []

    @handles(Note)
    async def look(job: JobContext, payload: Note) -> None:
        seen.append((await jobs.scalar("SELECT state FROM jobs"), await no_relay_gets(jobs, job.id)))

    delivery = await jobs.deliver()
    for _ in range(UNMARKED_REDELIVERIES):
        delivery = await jobs.dispatch(delivery.id)

    await make_runner(look).run(delivery)

    assert seen == [("executing", True)]
    assert (await jobs.get(delivery)).state is JobState.COMPLETED


async def test_a_marked_tx_job_that_was_lost_does_not_run(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver()
    for _ in range(UNMARKED_REDELIVERIES):
        delivery = await jobs.dispatch(delivery.id)
    runner = make_runner(add_user, lease=timedelta(0))
    async with jobs.database.sessions.begin() as session:  # between its mark and its handler it has lost its lease
        await session.execute(text(LOSE_WHEN_MARKED))
        await session.execute(text(WHEN_MARKED))

    try:
        await runner.run(delivery)
    finally:
        async with jobs.database.sessions.begin() as session:
            await session.execute(text("DROP FUNCTION lose_when_marked() CASCADE"))

    assert not await user_exists(jobs, delivery.id)


async def test_a_database_that_goes_away_costs_no_attempt(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    cut = []
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:

        @handles(Note, max_attempts=1)
        async def loses_its_database(job: JobContext, payload: Note) -> None:
            await proxy.cut()
            cut.append(True)
            await job.session.execute(text("SELECT 1"))

        delivery = await jobs.deliver()
        task = asyncio.create_task(make_runner(loses_its_database, database=database).run(delivery))
        await until(lambda: cut)
        await proxy.mend()
        await task

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.RETRYABLE, 0)
    assert len(await jobs.errors(delivery)) == 1


async def no_relay_gets(jobs: Jobs, job_id: UUID) -> bool:
    """Whether the row is locked."""
    query = f"SELECT count(*) FROM (SELECT FROM jobs WHERE id = '{job_id}' FOR NO KEY UPDATE SKIP LOCKED) AS free"
    async with jobs.database.sessions.begin() as session:
        return bool((await session.scalars(text(query))).one() == 0)
