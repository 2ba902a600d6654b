"""The jobs that a claim returns, and its counts."""

import asyncio
from datetime import timedelta

from sqlalchemy import func, select

from app_db import Database, Session
from app_db.jobs import claims
from app_db.jobs.claims import MAX_CRASHES
from app_db.jobs.ledger import Delivery
from app_db.models import JobCancellation, JobError, JobState

from .ledger_steps import (
    LEASE,
    MakeJob,
    claim,
    claimed,
    executing,
    is_due_within,
    let_lease_run_out,
    stored,
)

# --- claim ---------------------------------------------------------------------------------------------------------


async def test_a_claim_takes_the_most_urgent_first_and_then_the_oldest(session: Session, make_job: MakeJob) -> None:
    late = await make_job(priority=2, due_in=timedelta(seconds=-10))
    later = await make_job(priority=2, due_in=timedelta(seconds=-5))
    urgent = await make_job(priority=0, due_in=timedelta(seconds=-1))

    first, others = await claim(session, max_jobs=1), await claim(session)

    assert [delivery.id for delivery in first + others] == [urgent, late, later]


async def test_a_claim_leaves_what_is_not_due(session: Session, make_job: MakeJob) -> None:
    await make_job(due_in=timedelta(hours=1), state=JobState.SCHEDULED)
    await make_job(due_in=None, state=JobState.COMPLETED)

    assert await claim(session) == []


async def test_a_claim_leaves_other_queues(session: Session, make_job: MakeJob) -> None:
    await make_job(queue="mail")

    assert await claim(session, queue="default") == []


async def test_a_claim_takes_no_more_than_there_is_room_for(session: Session, make_job: MakeJob) -> None:
    for _ in range(3):
        await make_job()

    assert len(await claim(session, max_jobs=2)) == 2


async def test_what_was_claimed_is_not_due_before_its_lease_has_run_out(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    await claim(session)

    job = await stored(session, job_id)

    assert job.state is JobState.DISPATCHED
    assert await is_due_within(session, job, LEASE)
    assert await claim(session) == []


async def test_relays_that_claim_at_once_do_not_wait_and_get_different_jobs(
    database: Database, make_job: MakeJob
) -> None:
    jobs = {await make_job() for _ in range(4)}

    async with database.sessions() as one, database.sessions() as other:
        first = (await claims.claim(one, queue="default", max_jobs=2, lease=LEASE)).deliveries
        # While the first is not committed:
        second = (await claims.claim(other, queue="default", max_jobs=10, lease=LEASE)).deliveries

    assert (len(first), len(second)) == (2, 2)
    assert {delivery.id for delivery in [*first, *second]} == jobs


async def test_no_job_is_delivered_twice_by_many_relays(database: Database, make_job: MakeJob) -> None:
    jobs = [await make_job() for _ in range(30)]

    async def relay() -> list[Delivery]:
        async with database.sessions() as session:
            return [delivery for _ in range(10) for delivery in await claim(session, max_jobs=1)]

    deliveries = [delivery for some in await asyncio.gather(*(relay() for _ in range(5))) for delivery in some]

    assert sorted(delivery.id for delivery in deliveries) == sorted(jobs)


async def test_a_delivery_that_nobody_started_costs_no_attempt_and_no_crash(
    session: Session, make_job: MakeJob
) -> None:
    job_id = await make_job()
    for _ in range(MAX_CRASHES + 2):
        await claim(session)
        await let_lease_run_out(session, job_id)

    last = await claimed(session)

    job = await stored(session, job_id)
    assert (job.redeliveries, job.attempt, job.crashes) == (MAX_CRASHES + 2, 0, 0)
    assert last.fence == MAX_CRASHES + 3


async def test_a_job_whose_worker_died_is_delivered_again_and_the_crash_is_on_record(
    session: Session, make_job: MakeJob
) -> None:
    job_id = await make_job()
    before = await executing(session)
    await let_lease_run_out(session, job_id)

    again = await claimed(session)

    error = (await session.scalars(select(JobError))).one()
    assert again == Delivery(job_id, before.fence + 1)
    job = await stored(session, job_id)
    assert (job.crashes, job.attempt) == (1, 0)  # a crash costs no attempt
    assert (error.job_id, error.attempt) == (job_id, 1)
    assert "worker died" in error.error


async def test_a_job_that_takes_its_workers_down_is_discarded(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    for _ in range(MAX_CRASHES):
        await executing(session)
        await let_lease_run_out(session, job_id)

    assert await claim(session) == []

    job = await stored(session, job_id)
    errors = await session.scalar(select(func.count()).select_from(JobError))
    assert (job.state, job.claim_at, job.crashes, errors) == (JobState.DISCARDED, None, MAX_CRASHES, MAX_CRASHES)
    assert job.finished_at is not None


async def test_a_job_that_is_to_be_cancelled_ends_instead_of_being_delivered(
    session: Session, make_job: MakeJob
) -> None:
    job_id = await make_job()
    session.add(JobCancellation(job_id=job_id))
    await session.commit()

    assert await claim(session) == []

    job = await stored(session, job_id)
    assert (job.state, job.claim_at) == (JobState.CANCELLED, None)
    assert job.finished_at is not None


# --- make_due ------------------------------------------------------------------------------------------------------


async def test_a_delivery_that_could_not_be_sent_is_due_at_once(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await claimed(session)

    await claims.make_due(session, [delivery])
    await session.commit()

    assert await claim(session) == [Delivery(job_id, delivery.fence + 1)]


async def test_a_delivery_that_was_started_after_all_is_not_made_due(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    await claims.make_due(session, [delivery])

    assert (await stored(session, job_id)).state is JobState.EXECUTING


async def test_an_older_delivery_makes_nothing_due(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    old = await claimed(session)
    await let_lease_run_out(session, job_id)
    await claimed(session)

    await claims.make_due(session, [old])

    assert (await stored(session, job_id)).state is JobState.DISPATCHED
