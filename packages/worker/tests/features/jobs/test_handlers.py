"""The job that acts on many others: in batches, resumed, cancelled, audited once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select, text, update

from app_db.features.jobs.payloads import ActOnJobs
from app_db.jobs import bulk, control
from app_db.jobs.control import Action
from app_db.jobs.filters import JobFilter
from app_db.jobs.ledger import Delivery
from app_db.models import AuditEvent, Job, JobCancellation, JobState
from app_worker.features.jobs import handlers
from app_worker.features.jobs.handlers import act_on_jobs
from packages.worker.tests.conftest import Jobs, MakeRunner, Note, eventually

OPERATOR = UUID(int=7)
NOTES = JobFilter(kind=Note.kind)


pytestmark = pytest.mark.usefixtures("small_batches")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a batch look at two jobs."""
    monkeypatch.setattr(bulk, "LOOKED_AT", 2)


async def notes(jobs: Jobs, *states: JobState) -> list[UUID]:
    """Add a job in each state, in a queue of which nothing is claimed."""
    ids = [await jobs.enqueue(queue="notes") for _ in states]
    for job_id, state in zip(ids, states, strict=True):
        ended = {"claim_at": None, "finished_at": func.now()} if state in control.RETRIABLE - control.QUEUED else {}
        async with jobs.database.unit_of_work() as session:
            await session.execute(update(Job).where(Job.id == job_id).values(state=state, **ended))
    return ids


async def audited(jobs: Jobs) -> list[dict[str, Any]]:
    async with jobs.database.unit_of_work(read_only=True) as session:
        rows = (await session.scalars(select(AuditEvent).where(AuditEvent.event == "jobs_acted_on"))).all()
    assert {row.actor_id for row in rows} <= {OPERATOR}
    return [row.details for row in rows]


async def states_of(jobs: Jobs, ids: list[UUID]) -> list[JobState]:
    return [(await jobs.get(job_id)).state for job_id in ids]


async def deliver(jobs: Jobs, action: Action, chosen: JobFilter = NOTES) -> Delivery:
    return await jobs.deliver(ActOnJobs.of(action, chosen), owner_id=OPERATOR)


async def test_all_that_match_are_acted_on_and_audited_once(jobs: Jobs, make_runner: MakeRunner) -> None:
    failed = await notes(jobs, *[JobState.DISCARDED] * 5)
    delivery = await deliver(jobs, Action.RETRY)
    [later] = await notes(jobs, JobState.DISCARDED)

    await make_runner(act_on_jobs).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.result) == (JobState.COMPLETED, {"acted_on": 5})
    assert job.progress == {"done": 5, "of": 5, "acted_on": 5, "after": None, "is_over": True}
    assert await states_of(jobs, [*failed, later]) == [JobState.AVAILABLE] * 5 + [JobState.DISCARDED]
    assert await audited(jobs) == [{"action": "retry", "count": 5, "job": str(delivery.id), "kind": Note.kind}]


@pytest.mark.parametrize("action", Action)
async def test_each_action_fits_a_payload(jobs: Jobs, make_runner: MakeRunner, action: Action) -> None:
    await notes(jobs, JobState.DISCARDED, JobState.AVAILABLE)
    delivery = await deliver(jobs, action, JobFilter(queue="notes", state=None))

    await make_runner(act_on_jobs).run(delivery)

    assert (await jobs.get(delivery)).result == {"acted_on": 1}


async def test_an_action_on_every_job_there_is_is_given_up(jobs: Jobs, make_runner: MakeRunner) -> None:
    [note] = await notes(jobs, JobState.DISCARDED)
    delivery = await deliver(jobs, Action.DELETE, JobFilter())

    await make_runner(act_on_jobs).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.DISCARDED
    assert await states_of(jobs, [note]) == [JobState.DISCARDED]
    assert await audited(jobs) == []


@asynccontextmanager
async def refusing(jobs: Jobs, job_id: UUID) -> AsyncIterator[None]:
    """Let Postgres refuse every change of one job during the block."""
    function = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        (
            f"CREATE TRIGGER refuse BEFORE UPDATE ON jobs FOR EACH ROW WHEN (OLD.id = '{job_id}')"
            " EXECUTE FUNCTION refuse()"
        ),
    )
    async with jobs.database.unit_of_work() as session:
        for statement in function:
            await session.execute(text(statement))
    try:
        yield
    finally:
        async with jobs.database.unit_of_work() as session:
            await session.execute(text("DROP FUNCTION refuse CASCADE"))


async def test_an_attempt_goes_on_where_the_last_one_was_killed(jobs: Jobs, make_runner: MakeRunner) -> None:
    ids = await notes(jobs, *[JobState.AVAILABLE] * 5)
    delivery = await deliver(jobs, Action.DISCARD)
    async with refusing(jobs, ids[3]):
        await make_runner(act_on_jobs).run(delivery)
    halfway = await states_of(jobs, ids)
    async with jobs.database.unit_of_work() as session:  # it would be discarded once more, and counted
        await session.execute(update(Job).where(Job.id == ids[0]).values(state=JobState.AVAILABLE))

    await make_runner(act_on_jobs).run(await jobs.dispatch(delivery.id))

    assert halfway == [JobState.DISCARDED] * 2 + [JobState.AVAILABLE] * 3
    assert await states_of(jobs, ids[1:]) == [JobState.DISCARDED] * 4
    assert (await jobs.get(delivery)).result == {"acted_on": 5}
    assert [row["count"] for row in await audited(jobs)] == [5]


async def test_a_long_action_lets_others_run_and_costs_no_attempt(
    jobs: Jobs, make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "TURN", timedelta(0))
    ids = await notes(jobs, *[JobState.AVAILABLE] * 3)
    delivery = await deliver(jobs, Action.DISCARD)

    await make_runner(act_on_jobs).run(delivery)
    job = await jobs.get(delivery)
    await make_runner(act_on_jobs).run(await jobs.dispatch(delivery.id))

    assert (job.state, job.attempt, job.progress and job.progress["done"]) == (JobState.SCHEDULED, 0, 2)
    assert set(await states_of(jobs, ids)) == {JobState.DISCARDED}


async def test_an_attempt_after_the_last_batch_only_ends_the_job(jobs: Jobs, make_runner: MakeRunner) -> None:
    [note] = await notes(jobs, JobState.AVAILABLE)
    delivery = await deliver(jobs, Action.DISCARD)
    progress = {"done": 1, "of": 1, "acted_on": 1, "after": None, "is_over": True}
    async with jobs.database.unit_of_work() as session:
        await session.execute(update(Job).where(Job.id == delivery.id).values(progress=progress))

    await make_runner(act_on_jobs).run(delivery)

    assert await states_of(jobs, [note]) == [JobState.AVAILABLE]
    assert [row["count"] for row in await audited(jobs)] == [1]


@pytest.mark.parametrize(
    ("how", "counts", "state"),
    [
        ("cancelled", [2], JobState.CANCELLED),
        ("stopped", [], JobState.AVAILABLE),
    ],
)
async def test_a_job_that_is_ended_in_the_middle_tells_the_audit_only_if_it_was_cancelled(
    jobs: Jobs, make_runner: MakeRunner, how: str, counts: list[int], state: JobState
) -> None:
    await notes(jobs, JobState.AVAILABLE, JobState.AVAILABLE, JobState.EXECUTING)
    delivery, runner = await deliver(jobs, Action.CANCEL), make_runner(act_on_jobs)
    async with jobs.database.sessions() as session:
        # The second batch waits for this transaction.
        running = select(Job.id).where(Job.state == JobState.EXECUTING)
        await session.execute(insert(JobCancellation).from_select(["job_id"], running))
        run = asyncio.create_task(runner.run(delivery))
        await eventually(lambda: jobs.scalar("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"))
        async with jobs.database.unit_of_work() as other:
            if how == "cancelled":
                await control.cancel(other, delivery.id)
        if how == "stopped":
            runner.stop()
        run.cancel() if how == "stopped" else runner.cancel(delivery)
        await asyncio.wait([run])
        await session.rollback()

    job = await jobs.get(delivery)
    assert (job.state, job.progress and job.progress["acted_on"]) == (state, 2)
    assert [row["count"] for row in await audited(jobs)] == counts
