"""Steps and cursors of jobs in lease mode: each is committed once, and a later attempt goes on after the last one."""

import asyncio
from datetime import timedelta
from operator import attrgetter
from typing import Any

import pytest
from sqlalchemy import text

from app_db.jobs import control
from app_db.jobs.outbox import enqueue
from app_db.models import JobState
from app_db.types import utcnow
from app_worker.context import JobContext
from app_worker.registry import Handler, Mode, handles
from app_worker.testing import inline

from .conftest import Jobs, MakeRunner, Note, until


def in_steps(ran: list[str], *names: str, fails_after: int = 100) -> Handler:
    """Return a handler of these steps, each of which notes that it ran, and enqueues a job."""

    @handles(Note, mode=Mode.LEASE)
    async def works(job: JobContext, payload: Note) -> list[Any]:
        results = []
        for number, name in enumerate(names):
            async with job.step(name) as step:
                if number == fails_after:
                    raise OSError("the other side is away")
                if step.is_due:
                    ran.append(name)
                    await enqueue(await step.session(), Note(text=name), queue="effects")
                    step.result = {"number": number}
            results.append(step.result)
        return results

    return works


async def effects(jobs: Jobs) -> int:
    return int(await jobs.scalar("SELECT count(*) FROM jobs WHERE queue = 'effects'"))


async def test_a_later_attempt_goes_on_after_the_last_committed_step(jobs: Jobs, make_runner: MakeRunner) -> None:
    ran: list[str] = []
    delivery = await jobs.deliver()
    await make_runner(in_steps(ran, "charge", "ship", "mail", fails_after=2)).run(delivery)
    assert (await jobs.get(delivery)).state is JobState.RETRYABLE

    await make_runner(in_steps(ran, "charge", "ship", "mail")).run(await jobs.dispatch(delivery.id))

    assert ran == ["charge", "ship", "mail"]
    job = await jobs.get(delivery)
    assert (job.state, job.result) == (JobState.COMPLETED, [{"number": number} for number in range(3)])
    assert await effects(jobs) == 3
    assert [step["name"] for step in job.steps or []] == ["charge", "ship", "mail"]


async def test_what_a_step_has_written_goes_with_it_when_it_fails(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def fails_late(job: JobContext, payload: Note) -> None:
        async with job.step("charge") as step:
            await enqueue(await step.session(), Note(), queue="effects")
            raise OSError

    delivery = await jobs.deliver()

    await make_runner(fails_late).run(delivery)

    assert await effects(jobs) == 0
    assert (await jobs.get(delivery)).steps is None


async def test_a_step_of_a_delivery_that_has_lost_its_job_writes_nothing(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def is_slow(job: JobContext, payload: Note) -> None:
        async with job.step("charge"):
            await jobs.dispatch(job.id)  # as when the lease has ended meanwhile

    delivery = await jobs.deliver()

    await make_runner(is_slow).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.steps) == (JobState.DISPATCHED, None)


async def test_a_step_renews_the_lease(jobs: Jobs, make_runner: MakeRunner) -> None:
    seen = []

    @handles(Note, mode=Mode.LEASE)
    async def works(job: JobContext, payload: Note) -> None:
        await jobs.execute("UPDATE jobs SET claim_at = now() + interval '1 second'")
        async with job.step("charge"):
            pass
        seen.append(await jobs.scalar("SELECT claim_at > now() + interval '2 seconds' FROM jobs"))

    await make_runner(works).run(await jobs.deliver())

    assert seen == [True]


async def run_twice(jobs: Jobs, make_runner: MakeRunner, first: tuple[str, ...], second: tuple[str, ...]) -> str:
    """Run a job that fails after its steps, then code with other steps; return the last error."""
    ran: list[str] = []
    delivery = await jobs.deliver()
    await make_runner(in_steps(ran, *first, "end", fails_after=len(first))).run(delivery)

    await make_runner(in_steps(ran, *second)).run(await jobs.dispatch(delivery.id))

    assert ran == list(first)
    assert (await jobs.get(delivery)).state is JobState.RETRYABLE
    newest = max(await jobs.errors(delivery), key=attrgetter("attempt"))
    return newest.error


async def test_a_step_under_another_name_is_not_run(jobs: Jobs, make_runner: MakeRunner) -> None:
    error = await run_twice(jobs, make_runner, ("charge",), ("pay",))

    assert "committed the step 'charge', where this code asks for 'pay'" in error


async def test_a_committed_step_that_the_code_no_longer_knows_fails_the_attempt(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    error = await run_twice(jobs, make_runner, ("charge", "ship"), ("charge",))

    assert "committed the step 'ship', for which this code does not ask" in error


async def test_a_committed_step_that_is_unknown_keeps_the_last_transaction_shut(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    ran: list[str] = []
    delivery = await jobs.deliver()
    await make_runner(in_steps(ran, "charge", "end", fails_after=1)).run(delivery)

    @handles(Note, mode=Mode.LEASE)
    async def has_no_steps(job: JobContext, payload: Note) -> None:
        async with job.last_transaction() as session:
            await enqueue(session, Note(), queue="effects")

    await make_runner(has_no_steps).run(await jobs.dispatch(delivery.id))

    assert (await jobs.get(delivery)).state is JobState.RETRYABLE
    assert await effects(jobs) == 1


async def test_a_step_that_is_not_due_has_no_session(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver()
    await make_runner(in_steps([], "charge", "end", fails_after=1)).run(delivery)

    @handles(Note, mode=Mode.LEASE)
    async def does_not_look(job: JobContext, payload: Note) -> None:
        async with job.step("charge") as step:
            await step.session()

    await make_runner(does_not_look).run(await jobs.dispatch(delivery.id))

    newest = max(await jobs.errors(delivery), key=attrgetter("attempt"))
    assert "ask for `is_due` first" in newest.error


async def test_a_step_gives_what_a_later_attempt_would_read(jobs: Jobs, make_runner: MakeRunner) -> None:
    seen = []

    @handles(Note, mode=Mode.LEASE)
    async def works(job: JobContext, payload: Note) -> None:
        async with job.step("charge") as step:
            step.result = {1: (2, 3)}
        seen.append(step.result)

    await make_runner(works).run(await jobs.deliver())

    assert seen == [{"1": [2, 3]}]


async def test_a_handler_in_tx_mode_has_no_steps(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def works(job: JobContext, payload: Note) -> None:
        async with job.step("charge"):
            pass

    delivery = await jobs.deliver()
    await make_runner(works).run(delivery)

    (error,) = await jobs.errors(delivery)
    assert "a handler in tx mode has locked the row of its job" in error.error


def counting(seen: list[int], *, fails_at: int = 100) -> Handler:
    """Return a handler that moves its cursor from 0 to 5."""

    @handles(Note, mode=Mode.LEASE)
    async def counts(job: JobContext, payload: Note) -> Any:
        for number in range(job.cursor or 0, 5):
            if number == fails_at:
                raise OSError
            async with job.transaction(cursor=number + 1) as session:
                seen.append(number)
                await enqueue(session, Note(), queue="effects")
        return job.cursor

    return counts


async def test_a_cursor_moves_with_what_its_transaction_writes(jobs: Jobs, make_runner: MakeRunner) -> None:
    seen: list[int] = []
    delivery = await jobs.deliver()
    await make_runner(counting(seen, fails_at=3)).run(delivery)
    assert ((await jobs.get(delivery)).cursor, await effects(jobs)) == (3, 3)

    await make_runner(counting(seen)).run(await jobs.dispatch(delivery.id))

    job = await jobs.get(delivery)
    assert (seen, job.result, job.cursor, await effects(jobs)) == ([0, 1, 2, 3, 4], 5, 5, 5)


@pytest.mark.parametrize("ends", [JobState.DISCARDED, JobState.COMPLETED])
async def test_a_retry_goes_on_where_the_job_failed_and_one_that_completed_begins_again(
    jobs: Jobs, make_runner: MakeRunner, ends: JobState
) -> None:
    ran: list[str] = []
    delivery = await jobs.deliver(max_attempts=1)
    fails_after = 1 if ends is JobState.DISCARDED else 100
    await make_runner(in_steps(ran, "charge", "ship", fails_after=fails_after)).run(delivery)
    assert (await jobs.get(delivery)).state is ends
    await jobs.execute("UPDATE jobs SET cursor = '7'")

    async with jobs.database.sessions.begin() as session:
        await control.retry(session, delivery.id)

    job = await jobs.get(delivery)
    is_kept = ends is JobState.DISCARDED
    assert (job.steps is not None, job.cursor) == (is_kept, 7 if is_kept else None)


@pytest.mark.parametrize("with_cursor", [False, True])
async def test_a_worker_that_stops_gives_a_job_back_between_its_steps(
    jobs: Jobs, make_runner: MakeRunner, with_cursor: bool
) -> None:
    reached = asyncio.Event()
    go_on = asyncio.Event()

    @handles(Note, mode=Mode.LEASE, timeout=timedelta(hours=1))
    async def works(job: JobContext, payload: Note) -> None:
        async with job.step("charge"):
            reached.set()
            await go_on.wait()
        async with job.transaction(cursor=1) if with_cursor else job.step("ship"):
            await asyncio.Event().wait()

    delivery = await jobs.deliver()
    runner = make_runner(works)
    running = asyncio.create_task(runner.run(delivery))
    await until(reached.is_set)
    runner.stop()
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await running

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.AVAILABLE, 0)
    assert [step["name"] for step in job.steps or []] == ["charge"]


async def test_inline_a_job_has_its_steps_and_its_cursor_too(jobs: Jobs) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def works(job: JobContext, payload: Note) -> Any:
        async with job.step("charge") as step:
            await (await step.session()).execute(text("SELECT 1"))
            step.result = 5
        async with job.transaction(cursor=step.result):
            pass
        async with job.last_transaction() as session:
            await enqueue(session, Note(), queue="effects", run_at=utcnow() + timedelta(days=1))
        return job.cursor

    with inline(jobs.database, handlers=[works]):
        async with jobs.database.sessions.begin() as session:
            job_id = await enqueue(session, Note())

    job = await jobs.get(job_id)
    assert await effects(jobs) == 1
    assert (job.result, job.cursor, job.steps) == (5, 5, [{"name": "charge", "result": 5}])


async def test_an_attempt_that_fails_at_once_keeps_the_cursor(jobs: Jobs, make_runner: MakeRunner) -> None:
    delivery = await jobs.deliver()
    for fails_at in (3, 3):
        await make_runner(counting([], fails_at=fails_at)).run(delivery)
        assert (await jobs.get(delivery)).cursor == 3
        delivery = await jobs.dispatch(delivery.id)
