"""Jobs in lease mode: on record before they have an effect, renewed while they run, fenced when they are lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app_db import Database
from app_db.jobs.ledger import Delivery
from app_db.models import JobState, User
from app_db.settings import DatabaseSettings
from app_db.testing.queries import assert_queries
from app_worker.context import Fenced, JobContext
from app_worker.process import keep_leases
from app_worker.registry import Mode, handles
from app_worker.runner import Runner

from .conftest import Jobs, MakeRunner, Note, eventually, until
from .proxy import Proxy, over

BEAT = timedelta(milliseconds=5)


def new_user(job: JobContext) -> User:
    return User(id=job.id, email="x", email_canonical="x", password_hash="-")


async def count_users(jobs: Jobs) -> int:
    return int(await jobs.scalar("SELECT count(*) FROM users"))


async def test_the_start_of_a_leased_job_is_on_record_before_its_handler_runs(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    seen = []

    @handles(Note, mode=Mode.LEASE)
    async def look(job: JobContext, payload: Note) -> None:
        seen.append(await jobs.get(job.id))

    delivery = await jobs.deliver()
    runner = make_runner(look)

    await runner.run(delivery)

    (job,) = seen
    assert (job.state, job.attempt, job.worker_id) == (JobState.EXECUTING, 1, runner.worker_id)
    assert job.started_at is not None


async def test_what_a_leased_handler_returns_is_the_result_of_the_job(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def count(job: JobContext, payload: Note) -> dict[str, int]:
        await job.set_progress({"letters": 3})
        return {"letters": len(payload.text)}

    delivery = await jobs.deliver()

    await make_runner(count).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.result, job.claim_at) == (JobState.COMPLETED, {"letters": 5}, None)
    assert job.progress == {"letters": 3}


async def test_a_result_that_is_not_json_is_a_failed_attempt(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def returns_itself(job: JobContext, payload: Note) -> Any:
        return payload

    delivery = await jobs.deliver()

    await make_runner(returns_itself).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.RETRYABLE
    (error,) = await jobs.errors(delivery)
    assert "not JSON serializable" in error.error


async def test_the_idempotency_key_is_the_same_for_every_attempt(jobs: Jobs, make_runner: MakeRunner) -> None:
    keys = []

    @handles(Note, mode=Mode.LEASE)
    async def fails(job: JobContext, payload: Note) -> None:
        keys.append((job.attempt, job.idempotency_key))
        raise RuntimeError

    delivery = await jobs.deliver()
    runner = make_runner(fails)

    await runner.run(delivery)
    await runner.run(await jobs.dispatch(delivery.id))

    assert keys == [(1, f"job:{delivery.id}"), (2, f"job:{delivery.id}")]


async def test_a_handler_in_lease_mode_has_no_session_of_the_runner(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def takes_the_session(job: JobContext, payload: Note) -> None:
        job.session.add(new_user(job))

    delivery = await jobs.deliver()

    await make_runner(takes_the_session).run(delivery)

    (error,) = await jobs.errors(delivery)
    assert "opens transactions with job.transaction()" in error.error


async def test_a_leased_job_of_a_worker_that_stops_is_given_back(jobs: Jobs, make_runner: MakeRunner) -> None:
    runner = make_runner(endless)
    delivery = await jobs.deliver()
    task = asyncio.create_task(runner.run(delivery))
    await until(lambda: runner.held)

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.AVAILABLE, 0)
    assert runner.held == {}


@handles(Note, mode=Mode.LEASE, timeout=timedelta(hours=1))
async def endless(job: JobContext, payload: Note) -> None:
    await asyncio.Event().wait()


async def test_a_zombie_cannot_write(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def loses_its_job(job: JobContext, payload: Note) -> None:
        await jobs.dispatch(job.id)
        async with job.transaction() as session:
            session.add(new_user(job))

    delivery = await jobs.deliver()

    await make_runner(loses_its_job).run(delivery)

    assert await count_users(jobs) == 0


async def test_a_zombie_cannot_show_progress(jobs: Jobs, make_runner: MakeRunner) -> None:
    fenced = []

    @handles(Note, mode=Mode.LEASE)
    async def loses_its_job(job: JobContext, payload: Note) -> None:
        await jobs.dispatch(job.id)
        with pytest.raises(Fenced):
            await job.set_progress("wrong")
        fenced.append(True)

    delivery = await jobs.deliver()

    await make_runner(loses_its_job).run(delivery)

    assert fenced
    assert (await jobs.get(delivery)).progress is None


async def test_a_zombie_cannot_complete_its_job(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def loses_its_job(job: JobContext, payload: Note) -> str:
        await jobs.dispatch(job.id)
        return "the zombie's result"

    delivery = await jobs.deliver()

    with capture_logs() as logs:
        await make_runner(loses_its_job).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.fence, job.crashes, job.result) == (JobState.DISPATCHED, 2, 1, None)
    assert [event["event"] for event in logs] == ["job_fenced"]


async def test_a_zombie_cannot_fail_its_job(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def loses_its_job(job: JobContext, payload: Note) -> None:
        await jobs.dispatch(job.id)
        raise RuntimeError("too late")

    delivery = await jobs.deliver()

    await make_runner(loses_its_job).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.DISPATCHED
    (error,) = await jobs.errors(delivery)
    assert error.error == "The worker died, or lost its lease, while it ran this attempt."


async def test_a_job_whose_outcome_cannot_be_recorded_comes_back_with_its_lease(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:

        @handles(Note, mode=Mode.LEASE)
        async def fails_with_the_database(job: JobContext, payload: Note) -> None:
            await proxy.cut()
            raise RuntimeError

        delivery = await jobs.deliver()

        with capture_logs() as logs:
            await make_runner(fails_with_the_database, database=database).run(delivery)

    assert logs[-1]["event"] == "job_outcome_not_recorded"
    job = await jobs.get(delivery)
    assert (job.state, job.fence) == (JobState.EXECUTING, 1)
    assert job.claim_at is not None


async def test_leases_are_renewed_while_a_job_runs(jobs: Jobs, make_runner: MakeRunner) -> None:
    runner = make_runner(endless)
    async with running(runner, await jobs.deliver()) as delivery:
        first = (await jobs.get(delivery)).claim_at
        assert first is not None

        async with beating(runner):

            async def renewed() -> bool:
                claim_at = (await jobs.get(delivery)).claim_at
                return claim_at is not None and claim_at > first

            await eventually(renewed)


async def test_a_worker_without_jobs_asks_for_no_lease(jobs: Jobs, make_runner: MakeRunner) -> None:
    with assert_queries(jobs.database, max=0):
        async with beating(make_runner(endless)):
            await asyncio.sleep(5 * BEAT.total_seconds())


async def test_a_job_that_was_lost_is_cancelled(jobs: Jobs, make_runner: MakeRunner) -> None:
    runner = make_runner(endless)
    async with running(runner, await jobs.deliver()) as delivery:
        await jobs.dispatch(delivery.id)

        async with beating(runner):
            await until(lambda: not runner.held)

    job = await jobs.get(delivery)
    assert (job.state, job.fence) == (JobState.DISPATCHED, 2)


async def test_a_zombie_is_cancelled_although_the_same_worker_got_the_job_again(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    runner = make_runner(endless)
    async with (
        running(runner, await jobs.deliver()) as zombie,
        running(runner, await jobs.dispatch(zombie.id)) as current,
        beating(runner),
    ):
        await until(lambda: zombie not in runner.held)

        assert current in runner.held


async def test_one_job_in_a_transaction_does_not_keep_the_others_from_being_renewed(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def stays_in_a_transaction(job: JobContext, payload: Note) -> None:
        async with job.transaction():
            await asyncio.Event().wait()

    slow, other = make_runner(stays_in_a_transaction), make_runner(endless)
    async with running(slow, await jobs.deliver()) as first, running(other, await jobs.deliver()) as second:
        before = (await jobs.get(second)).claim_at
        assert before is not None
        other.held.update(slow.held)

        async with beating(other):

            async def renewed() -> bool:
                claim_at = (await jobs.get(second)).claim_at
                return claim_at is not None and claim_at > before

            await eventually(renewed)

        assert first in slow.held


async def test_a_transaction_renews_the_lease_at_its_end(jobs: Jobs, make_runner: MakeRunner) -> None:
    seen = []

    @handles(Note, mode=Mode.LEASE)
    async def two_looks(job: JobContext, payload: Note) -> None:
        seen.append((await jobs.get(job.id)).claim_at)
        async with job.transaction() as session:
            session.add(new_user(job))
        seen.append((await jobs.get(job.id)).claim_at)

    await make_runner(two_looks).run(await jobs.deliver())

    before, after = seen
    assert before is not None
    assert after is not None
    assert before < after
    assert await count_users(jobs) == 1


async def test_a_request_to_cancel_does_not_wait_for_the_transaction_of_a_handler(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def is_asked_to_end(job: JobContext, payload: Note) -> None:
        async with job.transaction(), jobs.database.sessions.begin() as other:
            await other.execute(text("SET LOCAL lock_timeout = '1ms'"))
            await other.execute(text("INSERT INTO job_cancellations (job_id) SELECT id FROM jobs"))

    delivery = await jobs.deliver()

    await make_runner(is_asked_to_end).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.COMPLETED


async def test_a_beat_that_fails_costs_no_job(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        runner = make_runner(endless)
        async with running(runner, await jobs.deliver()) as delivery:
            await proxy.cut()

            with capture_logs() as logs:
                async with beating(runner, database):
                    await until(lambda: logs)

            assert logs[0]["event"] == "beat_failed"
            assert delivery in runner.held


@asynccontextmanager
async def running(runner: Runner, delivery: Delivery) -> AsyncIterator[Delivery]:
    """Have a job running during the block."""
    task = asyncio.create_task(runner.run(delivery))
    await until(lambda: delivery in runner.held)
    try:
        yield delivery
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def beating(runner: Runner, database: Database | None = None) -> AsyncIterator[None]:
    """Renew leases during the block."""
    task = asyncio.create_task(keep_leases(database or runner.database, runner, beat=BEAT))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
