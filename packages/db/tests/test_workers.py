"""The heartbeats of a worker."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select

from app_db import Database, Session
from app_db.jobs import ledger, workers
from app_db.jobs.ledger import Delivery
from app_db.jobs.workers import BeatResult, WorkerRow
from app_db.models import JobCancellation, JobWorker
from app_db.types import new_id, utcnow

from .ledger_steps import (
    LEASE,
    MakeJob,
    claim,
    claimed,
    executing,
    is_due_within,
    let_lease_run_out,
    overtaken,
    start,
    stored,
)

WORKER = WorkerRow(new_id(), "host-1", 42, ["default", "mail"], concurrency=10, version="1.2.3")


async def beat(
    session: Session,
    leased: list[Delivery],
    *,
    held_ids: Sequence[UUID] = (),
    running: int = 0,
    draining: bool = False,
    lease: timedelta = timedelta(hours=1),
    loop_lag: float = 0,
) -> BeatResult:
    """Beat as a worker does, and commit."""
    found = await workers.beat(
        session, WORKER, held_ids=held_ids, leased=leased, running=running, draining=draining, lease=lease,
        loop_lag=loop_lag,
    )  # fmt: skip
    await session.commit()
    return found


async def test_a_worker_shows_up_with_its_first_beat(session: Session) -> None:
    await beat(session, [], running=3)

    row = (await session.scalars(select(JobWorker))).one()
    assert (row.id, row.host, row.pid, row.queues, row.concurrency, row.running, row.draining) == (
        WORKER.id, "host-1", 42, ["default", "mail"], 10, 3, False
    )  # fmt: skip


async def test_a_later_beat_moves_its_time_and_tells_what_has_changed(session: Session) -> None:
    await beat(session, [])
    first = (await session.scalars(select(JobWorker.beat_at))).one()

    await beat(session, [], running=1, draining=True, loop_lag=0.25)

    row = (await session.scalars(select(JobWorker))).one()
    assert (row.running, row.draining, row.version, row.loop_lag) == (1, True, "1.2.3", 0.25)
    assert row.beat_at > first


async def test_a_worker_that_stops_is_taken_off_the_list(session: Session) -> None:
    await beat(session, [])

    await workers.sign_off(session, WORKER.id)

    assert await session.scalar(select(func.count()).select_from(JobWorker)) == 0


async def test_a_beat_tells_which_jobs_shall_end(session: Session, make_job: MakeJob) -> None:
    await make_job()
    delivery = await executing(session)
    session.add(JobCancellation(job_id=delivery.id))
    await session.flush()

    held = await beat(session, [delivery])

    assert held == BeatResult({delivery}, {delivery})


async def test_the_leases_of_all_running_jobs_are_renewed_at_once(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await make_job()
    deliveries = await claim(session)
    for delivery in deliveries:
        await start(session, delivery)

    held = await beat(session, deliveries)

    assert held == BeatResult(set(deliveries), set())
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
        await ledger.lock(writer, writing, idle=LEASE, total=LEASE)
        held = await beat(session, deliveries)

    assert held == BeatResult(set(deliveries), set())
    assert await is_due_within(session, await stored(session, writing.id), LEASE)
    assert not await is_due_within(session, await stored(session, other.id), timedelta(minutes=59))


async def test_a_job_that_writes_can_be_asked_to_stop(database: Database, session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    async with database.sessions() as writer:
        await ledger.lock(writer, delivery, idle=LEASE, total=LEASE)
        session.add(JobCancellation(job_id=job_id))
        await session.commit()  # waits for no lock

    assert await session.get(JobCancellation, job_id) is not None


async def test_an_overtaken_delivery_renews_no_lease(session: Session, make_job: MakeJob) -> None:
    await make_job()
    old = await overtaken(session)

    assert (await beat(session, [old])).held == set()


@pytest.mark.parametrize("hand_over", [claimed, executing], ids=["dispatched", "executing"])
async def test_what_a_living_worker_has_in_hand_is_not_taken_from_it(
    session: Session, make_job: MakeJob, hand_over: Callable[[Session], Awaitable[Delivery]]
) -> None:
    await make_job()
    delivery = await hand_over(session)
    await let_lease_run_out(session, delivery.id)

    await beat(session, [], held_ids=[delivery.id])

    assert await claim(session) == []


async def test_what_a_worker_had_in_hand_is_taken_when_nobody_has_heard_of_it_for_a_lease(
    session: Session, make_job: MakeJob
) -> None:
    await make_job()
    delivery = await claimed(session)
    await let_lease_run_out(session, delivery.id)

    await beat(session, [], held_ids=[delivery.id], lease=timedelta(0))

    assert [each.id for each in await claim(session)] == [delivery.id]


async def test_what_a_worker_has_let_go_of_is_taken(session: Session, make_job: MakeJob) -> None:
    await make_job()
    delivery = await claimed(session)
    await let_lease_run_out(session, delivery.id)
    await beat(session, [], held_ids=[delivery.id])

    await beat(session, [])

    assert [each.id for each in await claim(session)] == [delivery.id]


@pytest.mark.parametrize(
    ("said", "known"), [([], None), ([None], None), ([False], False), ([False, None], False), ([False, True], True)]
)
async def test_what_mail_servers_carry_is_what_the_workers_that_live_have_said(
    session: Session, said: list[bool | None], known: bool | None
) -> None:
    for smtputf8 in said:
        session.add(JobWorker(id=new_id(), host="h", pid=1, queues=[], concurrency=1, smtputf8=smtputf8))
    session.add(
        JobWorker(
            id=new_id(), host="dead", pid=1, queues=[], concurrency=1, smtputf8=True,
            beat_at=utcnow() - timedelta(minutes=5),
        )
    )  # fmt: skip
    await session.flush()

    assert await workers.has_smtputf8(session) is known


async def test_a_worker_says_what_its_mail_server_carries_once_it_is_on_the_list(session: Session) -> None:
    assert not await workers.note_smtputf8(session, WORKER.id, False)
    await beat(session, [])
    assert await workers.note_smtputf8(session, WORKER.id, False)
    await beat(session, [])

    assert await workers.has_smtputf8(session) is False
