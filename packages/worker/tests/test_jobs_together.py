"""Leased jobs that start and end together: what happens to one of them is only its own."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from app_db import Database
from app_db.models import JobState
from app_db.settings import DatabaseSettings
from app_db.testing.queries import assert_queries
from app_worker.context import JobContext
from app_worker.registry import Handler, Mode, handles
from app_worker.runner import Runner

from .conftest import Jobs, MakeRunner, Note, endless, until
from .proxy import Proxy, over


@handles(Note, mode=Mode.LEASE)
async def says(job: JobContext, payload: Note) -> str:
    """Return the text of the payload."""
    return payload.text


@pytest.fixture
def leasing(make_runner: MakeRunner) -> Any:
    """Make a runner that has just run a leased job, so it starts the next ones together."""

    def make(*handlers: Handler, **options: Any) -> Runner:
        runner = make_runner(*handlers, **options)
        runner.expected_mode = Mode.LEASE
        return runner

    return make


async def test_jobs_that_start_and_end_at_once_need_two_statements(
    jobs: Jobs, leasing: MakeRunner, database: Database
) -> None:
    deliveries = [await jobs.deliver(Note(text=f"job {number}")) for number in range(10)]

    with assert_queries(database, max=2):
        await asyncio.gather(*map(leasing(says).run, deliveries))

    found = [await jobs.get(delivery) for delivery in deliveries]
    assert [(job.state, job.result) for job in found] == [(JobState.COMPLETED, f"job {number}") for number in range(10)]


async def test_a_result_that_cannot_be_kept_fails_no_job_that_ends_at_the_same_time(
    jobs: Jobs, leasing: MakeRunner
) -> None:
    good, bad = await jobs.deliver(Note(text="good")), await jobs.deliver(Note(text="bad"))

    @handles(Note, mode=Mode.LEASE)
    async def returns(job: JobContext, payload: Note) -> str:
        return "\0" if payload.text == "bad" else payload.text

    await asyncio.gather(*map(leasing(returns).run, (good, bad)))

    assert (await jobs.get(good)).result == "good"
    assert (await jobs.get(bad)).state is JobState.RETRYABLE
    assert [len(await jobs.errors(delivery)) for delivery in (good, bad)] == [0, 1]


async def test_the_slot_of_a_job_is_free_when_its_own_row_is_on_record(
    jobs: Jobs, leasing: MakeRunner, database: Database
) -> None:
    one, other = await jobs.deliver(), await jobs.deliver()
    may_end = asyncio.Event()

    @handles(Note, mode=Mode.LEASE)
    async def waits(job: JobContext, payload: Note) -> None:
        await may_end.wait()

    runner = leasing(waits)
    runs = [asyncio.create_task(runner.run(delivery)) for delivery in (one, other)]
    await until(lambda: len(runner.lease_tasks) == 2)
    async with database.sessions.begin() as session:
        await session.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": one.id})
        may_end.set()
        await runs[1]

        assert runner.running == {one}
        assert (await jobs.get(other)).state is JobState.COMPLETED
    await runs[0]

    assert runner.running == set()
    assert (await jobs.get(one)).state is JobState.COMPLETED


async def test_a_job_that_is_cancelled_while_it_starts_is_given_back_and_the_others_run(
    jobs: Jobs, leasing: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        runner = leasing(says, database=database)
        await runner.run(await jobs.deliver())  # so that the statements are prepared
        one, other = await jobs.deliver(), await jobs.deliver()
        proxy.hold_at = one.id.bytes
        runs = [asyncio.create_task(runner.run(delivery)) for delivery in (one, other)]
        await proxy.held.wait()
        proxy.hold_at = None
        runner.stop()
        runs[0].cancel()
        await asyncio.wait(runs[:1])
        given_back = await jobs.get(one)
        proxy.may_pass.set()
        await runs[1]

    assert (given_back.state, given_back.attempt) == (JobState.AVAILABLE, 0)
    assert (await jobs.get(one)).state is JobState.AVAILABLE
    assert (await jobs.get(other)).state is JobState.COMPLETED


@pytest.mark.parametrize("lost", ["start", "end"])
async def test_jobs_whose_connection_is_lost_while_they_start_or_end_together_lose_nothing(
    jobs: Jobs, leasing: MakeRunner, database_settings: DatabaseSettings, lost: str
) -> None:
    ran = []

    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:

        @handles(Note, mode=Mode.LEASE)
        async def runs(job: JobContext, payload: Note) -> None:
            ran.append(job.id)
            if lost == "end":
                proxy.cut_at = job.id.bytes

        runner = leasing(runs, database=database)
        deliveries = [await jobs.deliver() for _ in range(3)]
        if lost == "start":
            proxy.cut_at = deliveries[0].id.bytes
        await asyncio.gather(*map(runner.run, deliveries))

    found = [await jobs.get(delivery) for delivery in deliveries]
    state = (JobState.AVAILABLE, 0) if lost == "start" else (JobState.COMPLETED, 1)
    assert [(job.state, job.attempt) for job in found] == [state] * 3
    assert len(ran) == (0 if lost == "start" else 3)
    assert [job.crashes for job in found] == [0] * 3


async def test_a_running_job_waits_for_none_that_runs_beside_it(jobs: Jobs, leasing: MakeRunner) -> None:
    one, other = await jobs.deliver(), await jobs.deliver(Note(text="short"))

    @handles(Note, mode=Mode.LEASE)
    async def waits_or_not(job: JobContext, payload: Note) -> None:
        if payload.text != "short":
            await endless.function(job, payload)

    runner = leasing(waits_or_not)
    runs = [asyncio.create_task(runner.run(delivery)) for delivery in (one, other)]
    await runs[1]
    runner.cancel(one)
    await asyncio.wait(runs)

    assert (await jobs.get(other)).state is JobState.COMPLETED
    assert (await jobs.get(one)).state is JobState.AVAILABLE
