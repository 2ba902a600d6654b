"""Limits per key: how many jobs run at once, and what frees the place of a job."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select, text, update

from app_db import Database, Session
from app_db.jobs import admission, claims, control, limit_control
from app_db.jobs.batches import enqueue_chain
from app_db.jobs.claims import Slots
from app_db.jobs.ledger import Delivery, Starter, start
from app_db.jobs.outbox import enqueue
from app_db.jobs.rescheduling import reschedule
from app_db.models import Job, JobLimitKey, JobLimitSignal, JobState
from app_db.types import new_id

from .ledger_steps import LEASE, let_lease_run_out, stored, take
from .limited_jobs import HOUR, Call, add, admitted, end, run

pytestmark = pytest.mark.usefixtures("declared_limits")


async def test_no_more_jobs_of_a_key_run_at_once_than_its_limit_allows(session: Session) -> None:
    await add(session, *["ann"] * 5, *["bob"] * 3)

    first = await admitted(session)
    second = await admitted(session)

    keys = [(await stored(session, delivery.id)).limit_key for delivery in first]
    assert (sorted(map(str, keys)), second) == (["test:ann"] * 2 + ["test:bob"] * 2, [])


@pytest.mark.parametrize("leased", [True, False])
async def test_a_job_that_ends_lets_the_next_one_in(session: Session, leased: bool) -> None:
    await add(session, *["ann"] * 3)
    one, _ = await admitted(session)
    await run(session, one, leased=leased)

    if leased:
        assert await admitted(session) == []
        await end(session, one)

    assert len(await admitted(session)) == 1


async def test_a_job_in_tx_mode_counts_until_its_transaction_has_committed(
    database: Database, session: Session
) -> None:
    await add(session, *["ann"] * 3)
    one, _ = await admitted(session)

    async with database.sessions() as handler:
        await start(handler, one, Starter(new_id(), [], LEASE))
        assert await admitted(session) == []
        await handler.commit()

    assert len(await admitted(session)) == 1


async def test_a_job_that_fails_waits_without_a_place_and_gets_one_later(session: Session) -> None:
    await add(session, *["ann"] * 3)
    one, _ = await admitted(session)
    await run(session, one)
    await end(session, one, JobState.RETRYABLE, due_in=HOUR)

    (third,) = await admitted(session)
    await session.execute(update(Job).where(Job.id == one.id).values(claim_at=func.now()))
    await session.commit()
    assert await admitted(session) == []
    await run(session, third)
    await end(session, third)

    assert [delivery.id for delivery in await admitted(session)] == [one.id]
    assert (await stored(session, one.id)).state is JobState.DISPATCHED


async def test_a_crash_keeps_its_place_until_its_lease_has_run_out(session: Session) -> None:
    await add(session, *["ann"] * 3)
    one, _ = await admitted(session)
    await run(session, one)
    await let_lease_run_out(session, one.id)

    (again,) = await admitted(session)

    assert again == Delivery(one.id, one.fence + 1)


async def test_what_an_operator_cancels_makes_room(session: Session) -> None:
    await add(session, *["ann"] * 4)
    one, _ = await admitted(session)
    await control.cancel(session, one.id)
    await session.commit()

    assert len(await admitted(session)) == 1


async def test_a_job_that_waits_for_its_limit_can_be_cancelled_retried_and_moved(session: Session) -> None:
    *_, third, fourth, fifth = await add(session, *["ann"] * 5)
    one, two = await admitted(session)
    await control.cancel(session, third)
    await control.retry(session, fourth)
    await reschedule(session, fifth, run_at=datetime.now(UTC) + HOUR)
    await session.commit()
    for delivery in (one, two):
        await run(session, delivery)
        await end(session, delivery)

    assert [delivery.id for delivery in await admitted(session)] == [fourth]
    assert (await stored(session, third)).due_at is None


async def test_a_completed_job_that_is_retried_keeps_to_the_limit(session: Session) -> None:
    await add(session, *["ann"] * 3)
    one, _ = await admitted(session)
    await run(session, one)
    await end(session, one)
    await admitted(session)
    await control.retry(session, one.id)
    await session.commit()

    assert await admitted(session) == []
    assert (await stored(session, one.id)).state is JobState.SCHEDULED


async def test_jobs_of_a_paused_queue_take_no_place_of_others(session: Session) -> None:
    await add(session, *["ann"] * 3, queue="slow")
    await control.pause(session, "slow")
    await session.commit()
    assert await admitted(session, queue="slow") == []
    await add(session, *["ann"] * 3)

    assert len(await admitted(session)) == 2

    await control.resume(session, "slow")
    await session.commit()
    assert await admitted(session, queue="slow") == []


async def test_a_place_is_passed_on_between_queues(session: Session) -> None:
    await add(session, *["ann"] * 3, queue="slow")
    one, _ = await admitted(session, queue="slow")
    await add(session, "ann")
    assert await admitted(session) == []
    await run(session, one)
    await end(session, one)

    assert len(await admitted(session)) == 1
    assert await admitted(session, queue="slow") == []


async def test_a_key_with_many_jobs_does_not_keep_another_with_few_waiting(session: Session) -> None:
    await limit_control.set_limit(session, "test", running=1000, rate=None, by=None)
    await add(session, *["ann"] * 5000)
    await take(session, max_jobs=10)
    await admission.admit(session, queue="default", max_jobs=10)
    await add(session, *["bob"] * 3)

    claimed: list[Delivery] = []
    for _ in range(4):
        claimed += (await take(session, max_jobs=10)).deliveries
        await admission.admit(session, queue="default", max_jobs=10)
        await session.commit()

    keys = [(await stored(session, delivery.id)).limit_key for delivery in claimed]
    assert keys.count("test:bob") == 3


async def test_the_keys_of_one_admission_have_a_share_each(session: Session) -> None:
    await session.execute(text("UPDATE job_limits SET running = 100"))
    await add(session, *["ann"] * 10, *["bob"] * 3)

    assert await admission.admit(session, queue="default", max_jobs=4) == 4

    shares = await session.execute(
        text("SELECT limit_key, count(*) FROM jobs WHERE due_at IS NULL GROUP BY 1 ORDER BY 1")
    )
    assert [tuple(row) for row in shares] == [("test:ann", 2), ("test:bob", 2)]


async def test_a_job_for_later_is_not_looked_at_before(session: Session) -> None:
    await add(session, "ann", run_at=datetime.now(UTC) + HOUR)

    assert await admitted(session) == []

    row = (await session.scalars(select(JobLimitKey))).one()
    assert row.admit_at is not None
    assert row.admit_at > datetime.now(UTC) + HOUR / 2
    assert not (await take(session)).may_admit


async def test_the_job_with_the_lowest_number_is_let_in_first(session: Session) -> None:
    await add(session, "ann", "ann")
    (urgent,) = await add(session, "ann", priority=0)

    assert urgent in [delivery.id for delivery in await admitted(session)]


async def test_no_row_is_left_when_nothing_waits(session: Session) -> None:
    await add(session, "ann")
    (one,) = await admitted(session)
    await run(session, one)
    await end(session, one)
    await admitted(session)

    assert (await session.scalars(select(func.count()).select_from(JobLimitKey))).one() == 0
    assert (await session.scalars(select(func.count()).select_from(JobLimitSignal))).one() == 0


async def test_many_jobs_of_a_transaction_are_one_signal(session: Session) -> None:
    await add(session, *["ann"] * 200)

    assert (await session.scalars(select(func.count()).select_from(JobLimitSignal))).one() == 1


async def test_an_enqueue_in_a_long_transaction_keeps_nobody_waiting(database: Database, session: Session) -> None:
    await add(session, *["ann"] * 3)
    one, _ = await admitted(session)
    async with database.sessions() as caller:
        await enqueue(caller, Call(clinic="ann"))
        await run(session, one)
        await end(session, one)
        assert len(await admitted(session)) == 1
        await session.execute(text("UPDATE jobs SET state = 'completed', claim_at = NULL, finished_at = now()"))
        await session.commit()
        assert await admitted(session) == []
        await caller.commit()

    assert len(await admitted(session)) == 1


async def test_a_deleted_job_makes_room(session: Session) -> None:
    await add(session, *["ann"] * 3)
    one, _ = await admitted(session)
    await session.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": one.id})
    await session.commit()

    assert len(await admitted(session)) == 1


async def test_a_claim_says_that_an_end_may_let_a_job_in(session: Session) -> None:
    await add(session, *["ann"] * 3)
    await admitted(session)

    claim = await take(session)

    assert (claim.more_due, claim.may_admit) == (True, False)


async def test_a_job_that_a_claim_starts_counts_too(session: Session) -> None:
    await add(session, *["ann"] * 3)
    await admission.admit(session, queue="default")
    await session.commit()
    slots = Slots(Starter(new_id(), ["test"], LEASE), 5, 5)

    claim = await claims.claim(session, queue="default", max_jobs=5, lease=LEASE, slots=slots)
    await session.commit()

    assert len(claim.started) == 2
    assert await admitted(session) == []


async def test_the_next_job_of_a_chain_keeps_to_its_limit(session: Session) -> None:
    await add(session, "ann")
    batch_id = await enqueue_chain(session, Call(clinic="ann"), Call(clinic="ann"))
    await session.commit()
    other, first = await admitted(session)
    await add(session, "ann")
    await run(session, first)
    await end(session, first)

    assert len(await admitted(session)) == 1
    waiting = (await session.scalars(select(Job.due_at).where(Job.batch_id == batch_id, Job.id != first.id))).all()
    assert len(waiting) == 1
    await run(session, other)
    await end(session, other)
    assert len(await admitted(session)) == 1
