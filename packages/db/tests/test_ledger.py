"""Who holds a job: claims, starts, leases and fences."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from app_db import Database, Session
from app_db.jobs import ledger
from app_db.jobs.ledger import MAX_CRASHES, Delivery
from app_db.models import Job, JobCancellation, JobError, JobState
from app_db.types import new_id

type MakeJob = Callable[..., Awaitable[UUID]]

LEASE = timedelta(minutes=1)
PAST = timedelta(seconds=-1)
FINAL = [JobState.COMPLETED, JobState.DISCARDED, JobState.CANCELLED]


@pytest.fixture
def make_job(database: Database) -> MakeJob:
    """Return a factory of committed jobs that are due by default."""

    async def make(*, due_in: timedelta | None = PAST, **columns: Any) -> UUID:  # Any: columns of Job
        job_id = new_id()
        defaults = {"kind": "test", "payload": {"n": 1}, "payload_version": 1, "state": JobState.AVAILABLE}
        claim_at = None if due_in is None else func.now() + due_in
        async with database.sessions.begin() as session:
            session.add(Job(**{"id": job_id, "claim_at": claim_at, **defaults, **columns}))
        return job_id

    return make


async def claim(session: Session, *, queue: str = "default", room: int = 10) -> list[Delivery]:
    """Claim as a relay does, and commit."""
    deliveries = await ledger.claim(session, queue=queue, room=room, lease=LEASE)
    await session.commit()
    return deliveries


async def start(session: Session, delivery: Delivery, *, leased: bool = True) -> ledger.StartedJob | None:
    """Start as a runner does, and commit."""
    started = await ledger.start(
        session, delivery, leased_kinds=["test"] if leased else [], worker_id=new_id(), lease=LEASE
    )
    await session.commit()
    return started


async def claimed(session: Session) -> Delivery:
    (delivery,) = await claim(session)
    return delivery


async def executing(session: Session) -> Delivery:
    delivery = await claimed(session)
    assert await start(session, delivery) is not None
    return delivery


async def overtaken(session: Session) -> Delivery:
    """A delivery whose job was executing, lost its lease, and has been delivered again."""
    delivery = await executing(session)
    await let_lease_run_out(session, delivery.id)
    again = await claimed(session)
    assert await start(session, again) is not None
    return delivery


async def let_lease_run_out(session: Session, job_id: UUID) -> None:
    await session.execute(update(Job).where(Job.id == job_id).values(claim_at=func.now() + PAST))
    await session.commit()


async def stored(session: Session, job_id: UUID) -> Job:
    statement = select(Job).where(Job.id == job_id).execution_options(populate_existing=True)
    return (await session.scalars(statement)).one()


async def is_due_within(session: Session, job: Job, duration: timedelta) -> bool:
    now = await ledger.database_time(session)
    return job.claim_at is not None and now < job.claim_at <= now + duration


# --- claim ---------------------------------------------------------------------------------------------------------


async def test_a_claim_takes_the_most_urgent_first_and_then_the_oldest(session: Session, make_job: MakeJob) -> None:
    late = await make_job(priority=2, due_in=timedelta(seconds=-10))
    later = await make_job(priority=2, due_in=timedelta(seconds=-5))
    urgent = await make_job(priority=0, due_in=timedelta(seconds=-1))

    first, others = await claim(session, room=1), await claim(session)

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

    assert len(await claim(session, room=2)) == 2


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
        first = await ledger.claim(one, queue="default", room=2, lease=LEASE)
        second = await ledger.claim(other, queue="default", room=10, lease=LEASE)  # while the first is not committed

    assert (len(first), len(second)) == (2, 2)
    assert {delivery.id for delivery in first + second} == jobs


async def test_no_job_is_delivered_twice_by_many_relays(database: Database, make_job: MakeJob) -> None:
    jobs = [await make_job() for _ in range(30)]

    async def relay() -> list[Delivery]:
        async with database.sessions() as session:
            return [delivery for _ in range(10) for delivery in await claim(session, room=1)]

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
    assert (await stored(session, job_id)).crashes == 1
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


# --- make_due ------------------------------------------------------------------------------------------------------


async def test_a_delivery_that_could_not_be_sent_is_due_at_once(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await claimed(session)

    await ledger.make_due(session, [delivery])
    await session.commit()

    assert await claim(session) == [Delivery(job_id, delivery.fence + 1)]


async def test_a_delivery_that_was_started_after_all_is_not_made_due(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    await ledger.make_due(session, [delivery])

    assert (await stored(session, job_id)).state is JobState.EXECUTING


async def test_an_older_delivery_makes_nothing_due(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    old = await claimed(session)
    await let_lease_run_out(session, job_id)
    await claimed(session)

    await ledger.make_due(session, [old])

    assert (await stored(session, job_id)).state is JobState.DISPATCHED


# --- start ---------------------------------------------------------------------------------------------------------


async def test_starting_tells_what_to_do(session: Session, make_job: MakeJob) -> None:
    owner_id = new_id()
    await make_job(payload={"n": 7}, payload_version=2, max_attempts=4, owner_id=owner_id, request_id="request-1")

    started = await start(session, await claimed(session))

    assert started == ledger.StartedJob("test", {"n": 7}, 2, 1, 4, owner_id, "request-1")


async def test_a_leased_job_executes_until_its_lease_runs_out(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    await executing(session)

    job = await stored(session, job_id)

    assert (job.state, job.attempt, job.finished_at) == (JobState.EXECUTING, 1, None)
    assert await is_due_within(session, job, LEASE)


async def test_any_other_job_is_completed_by_its_start(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    await start(session, await claimed(session), leased=False)

    job = await stored(session, job_id)

    assert (job.state, job.attempt, job.claim_at) == (JobState.COMPLETED, 1, None)
    assert job.finished_at is not None


async def test_a_start_is_on_record_with_its_worker(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    worker_id = new_id()

    await ledger.start(session, await claimed(session), leased_kinds=[], worker_id=worker_id, lease=LEASE)

    job = await stored(session, job_id)
    assert job.worker_id == worker_id
    assert job.started_at is not None


async def test_the_same_delivery_starts_once(session: Session, make_job: MakeJob) -> None:
    await make_job()
    delivery = await executing(session)

    assert await start(session, delivery) is None


async def test_an_older_delivery_does_not_start(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    old = await claimed(session)
    await let_lease_run_out(session, job_id)
    await claimed(session)

    assert await start(session, old) is None


async def test_an_unknown_job_does_not_start(session: Session) -> None:
    assert await start(session, Delivery(new_id(), 1)) is None


async def test_a_job_that_is_being_run_in_a_transaction_is_not_delivered_however_late_it_is(
    database: Database, session: Session, make_job: MakeJob
) -> None:
    await make_job()
    delivery = await claimed(session)
    await let_lease_run_out(session, delivery.id)

    async with database.sessions() as runner:
        await ledger.start(runner, delivery, leased_kinds=[], worker_id=new_id(), lease=LEASE)

        assert await claim(session) == []


# --- finish --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", FINAL)
async def test_a_job_ends_with_its_result(session: Session, make_job: MakeJob, state: JobState) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    assert await ledger.finish(session, delivery, state=state, attempt=1, result={"rows": [1, None]})

    job = await stored(session, job_id)
    assert (job.state, job.claim_at, job.result) == (state, None, {"rows": [1, None]})
    assert job.finished_at is not None


async def test_a_job_without_a_result_has_sql_null(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await ledger.finish(session, await executing(session), state=JobState.COMPLETED, attempt=1)

    assert (await session.scalars(select(Job.result.is_(None)))).one()


async def test_a_retry_is_due_after_its_backoff(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    assert await ledger.finish(session, delivery, state=JobState.RETRYABLE, attempt=1, due_in=LEASE)

    job = await stored(session, job_id)
    assert (job.state, job.attempt, job.finished_at) == (JobState.RETRYABLE, 1, None)
    assert await is_due_within(session, job, LEASE)


async def test_an_attempt_can_be_given_back(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    await ledger.finish(session, delivery, state=JobState.AVAILABLE, attempt=0, due_in=timedelta(0))
    await session.commit()

    assert (await stored(session, job_id)).attempt == 0
    assert await claim(session) == [Delivery(job_id, delivery.fence + 1)]


async def test_an_overtaken_delivery_finishes_nothing(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    old = await overtaken(session)

    assert not await ledger.finish(session, old, state=JobState.COMPLETED, attempt=1, result="late")

    assert (await stored(session, job_id)).state is JobState.EXECUTING


async def test_a_finished_job_is_not_finished_again(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)
    await ledger.finish(session, delivery, state=JobState.CANCELLED, attempt=1)

    assert not await ledger.finish(session, delivery, state=JobState.COMPLETED, attempt=1)

    assert (await stored(session, job_id)).state is JobState.CANCELLED


async def test_the_history_of_attempts_keeps_each_error(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    await ledger.record_error(session, delivery, attempt=1, error="no route", trace="line 1")
    await ledger.record_error(session, delivery, attempt=2, error="no host", trace=None)

    errors = (await session.scalars(select(JobError).order_by(JobError.id))).all()
    assert [(error.job_id, error.attempt, error.error, error.trace) for error in errors] == [
        (job_id, 1, "no route", "line 1"),
        (job_id, 2, "no host", None),
    ]


# --- hold, progress, extend ----------------------------------------------------------------------------------------


async def test_a_job_that_runs_is_held(session: Session, make_job: MakeJob) -> None:
    await make_job()

    assert await ledger.hold(session, await executing(session))


async def test_an_overtaken_delivery_holds_nothing(session: Session, make_job: MakeJob) -> None:
    await make_job()

    assert not await ledger.hold(session, await overtaken(session))


async def test_a_held_job_is_not_delivered_before_the_end_of_the_transaction(
    database: Database, session: Session, make_job: MakeJob
) -> None:
    await make_job()
    delivery = await executing(session)
    await let_lease_run_out(session, delivery.id)

    async with database.sessions() as writer:
        assert await ledger.hold(writer, delivery)

        assert await claim(session) == []


async def test_progress_is_shown(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    assert await ledger.set_progress(session, delivery, {"done": 1, "of": 2})

    assert (await stored(session, job_id)).progress == {"done": 1, "of": 2}


async def test_an_overtaken_delivery_shows_no_progress(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    old = await overtaken(session)

    assert not await ledger.set_progress(session, old, {"done": 2, "of": 2})

    assert (await stored(session, job_id)).progress is None


async def test_the_leases_of_all_running_jobs_are_renewed_at_once(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await make_job()
    deliveries = await claim(session)
    for delivery in deliveries:
        await start(session, delivery)

    held = await ledger.extend(session, deliveries, lease=timedelta(hours=1))

    assert held == set(deliveries)
    for delivery in deliveries:
        job = await stored(session, delivery.id)
        assert not await is_due_within(session, job, timedelta(minutes=59))


async def test_a_job_that_writes_does_not_keep_the_others_from_renewing_their_leases(
    database: Database, session: Session, make_job: MakeJob
) -> None:
    await make_job()
    await make_job()
    deliveries = await claim(session)
    for delivery in deliveries:
        await start(session, delivery)
    writing, other = deliveries

    async with database.sessions() as writer:
        await ledger.hold(writer, writing)
        held = await ledger.extend(session, deliveries, lease=timedelta(hours=1))

    assert held == set(deliveries)
    assert await is_due_within(session, await stored(session, writing.id), LEASE)
    assert not await is_due_within(session, await stored(session, other.id), timedelta(minutes=59))


async def test_a_job_that_writes_can_be_asked_to_stop(database: Database, session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    async with database.sessions() as writer:
        await ledger.hold(writer, delivery)
        session.add(JobCancellation(job_id=job_id))
        await session.commit()  # waits for no lock

    assert await session.get(JobCancellation, job_id) is not None


async def test_an_overtaken_delivery_renews_no_lease(session: Session, make_job: MakeJob) -> None:
    await make_job()
    old = await overtaken(session)

    assert await ledger.extend(session, [old], lease=timedelta(hours=1)) == set()
