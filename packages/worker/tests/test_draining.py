"""Running due jobs without an executor."""

import asyncio

from sqlalchemy import select

from app_db.jobs import control, ledger
from app_db.jobs.batches import enqueue_batch
from app_db.jobs.ledger import Starter
from app_db.jobs.payload import JobPayload
from app_db.models import Job
from app_db.types import new_id
from app_worker.context import JobContext
from app_worker.draining import drain
from app_worker.registry import handles

from .conftest import LEASE, Jobs, MakeRunner, Note, endless, until


@handles(Note)
async def read(job: JobContext, payload: Note) -> None: ...


class Vanishing(JobPayload):
    """A job that deletes its own row."""

    kind = "test.vanishing"


@handles(Vanishing)
async def vanish(job: JobContext, payload: Vanishing) -> None:
    await job.session.delete(await job.session.get_one(Job, job.id))


async def test_the_queue_that_is_named_first_is_drained_first(jobs: Jobs, make_runner: MakeRunner) -> None:
    order: list[str] = []

    @handles(Note)
    async def note_order(job: JobContext, payload: Note) -> None:
        order.append(payload.text)

    for queue in ("a", "b", "a"):
        await jobs.enqueue(Note(text=queue), queue=queue)

    await drain(make_runner(note_order), queues=["b", "a"], lease=LEASE)

    assert order == ["b", "a", "a"]


async def test_draining_goes_on_after_a_job_that_ends_in_being_claimed(jobs: Jobs, make_runner: MakeRunner) -> None:
    orphan = await jobs.deliver()
    async with jobs.database.sessions.begin() as session:
        await ledger.start(session, orphan, Starter(new_id(), [Note.kind], -LEASE))
        await control.cancel(session, orphan.id)
    await jobs.enqueue()

    states = await drain(make_runner(read), queues=["default"], lease=LEASE)

    assert states == {"completed": 1}
    assert (await jobs.get(orphan)).state == "cancelled"


async def test_a_drain_runs_the_last_job_of_a_batch(jobs: Jobs, make_runner: MakeRunner) -> None:
    async with jobs.database.sessions.begin() as session:
        await enqueue_batch(session, [Note()], on_failure=Note())
        await control.cancel(session, (await session.scalars(select(Job.id))).one())

    assert await drain(make_runner(read), queues=["default"], lease=LEASE) == {"completed": 1}


async def test_draining_leaves_what_the_limit_of_its_queue_does_not_allow(jobs: Jobs, make_runner: MakeRunner) -> None:
    await jobs.deliver()
    await jobs.enqueue()
    async with jobs.database.sessions.begin() as session:
        await control.limit(session, "default", 1)

    assert await drain(make_runner(read), queues=["default"], lease=LEASE) == {}


async def test_draining_runs_what_the_limit_of_its_queue_allows(jobs: Jobs, make_runner: MakeRunner) -> None:
    for _ in range(3):
        await jobs.enqueue()
    async with jobs.database.sessions.begin() as session:
        await control.limit(session, "default", 1)

    assert await drain(make_runner(read), queues=["default"], lease=LEASE) == {"completed": 3}


async def test_a_job_whose_row_is_gone_is_not_counted(jobs: Jobs, make_runner: MakeRunner) -> None:
    await jobs.enqueue(Vanishing())
    await jobs.enqueue()

    assert await drain(make_runner(read, vanish), queues=["default"], lease=LEASE) == {"completed": 1}


async def test_a_job_that_is_cancelled_while_it_runs_does_not_end_the_drain(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    job_id = await jobs.enqueue()
    await jobs.enqueue(Vanishing(), queue="next")
    runner = make_runner(endless, vanish)
    draining = asyncio.create_task(drain(runner, queues=["default", "next"], lease=LEASE))
    await until(lambda: runner.lease_tasks)
    async with jobs.database.sessions.begin() as session:
        await control.cancel(session, job_id)

    for delivery in [*runner.lease_tasks]:  # as a heartbeat does that has heard of it
        runner.cancel(delivery)

    assert await draining == {"cancelled": 1}
    assert await jobs.scalar("SELECT count(*) FROM jobs") == 1


async def test_a_drain_that_is_cancelled_gives_its_job_back_first(jobs: Jobs, make_runner: MakeRunner) -> None:
    job_id = await jobs.enqueue()
    runner = make_runner(endless)
    draining = asyncio.create_task(drain(runner, queues=["default"], lease=LEASE))
    await until(lambda: runner.lease_tasks)

    draining.cancel()
    await asyncio.wait([draining])

    assert draining.cancelled()
    job = await jobs.get(job_id)
    assert (job.state, job.attempt) == ("available", 0)
