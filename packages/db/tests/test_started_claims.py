"""Claims that start jobs for the slots of their own process: as if each had been started by itself."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, inspect, text

from app_db import Database, Session
from app_db.jobs import claims, ledger
from app_db.jobs.claims import MAX_CRASHES, SUSPICIOUS, Claim, Slots
from app_db.jobs.ledger import Delivery, StartedJob, Starter
from app_db.models import Job, JobCancellation, JobQueue, JobState
from app_db.types import new_id

from .ledger_steps import LEASE, MakeJob, is_due_within, let_lease_run_out, stored

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STARTER = Starter(new_id(), ["leased"], LEASE)
OTHER = Starter(new_id(), ["leased"], LEASE)
STATES = [JobState.AVAILABLE, JobState.RETRYABLE, JobState.DISPATCHED, JobState.EXECUTING]
ROWS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["leased", "tx"]),
        "state": st.sampled_from(STATES),
        "priority": st.integers(0, 1),
        "crashes": st.integers(0, MAX_CRASHES - 1),
        "attempt": st.sampled_from([1, 7, 32767]),
        "is_cancelled": st.booleans(),
        "payload": st.sampled_from([{}, {"n": 1}, {"text": "ü"}]),
    }
)


async def claim_for(session: Session, queue: str, *, max_jobs: int, slots: Slots) -> Claim:
    claim = await claims.claim(session, queue=queue, max_jobs=max_jobs, lease=LEASE, slots=slots)
    if claim.has_limit:
        claim = await claims.claim_within_limit(session, queue=queue, max_jobs=max_jobs, lease=LEASE, slots=slots)
    await session.commit()
    return claim


async def start_apart(session: Session, claim: Claim, slots: Slots) -> dict[Delivery, StartedJob]:
    """Start, one by one, the jobs of a claim that are for the slots and in lease mode."""
    started = {}
    share = ceil(len(claim.deliveries) * slots.own / max(slots.own, slots.everywhere, 1))
    for delivery in claim.deliveries[: min(slots.own, share)]:
        job = await ledger.start(session, delivery, slots.starter)
        assert job is not None
        if job.kind in slots.starter.leased_kinds and job.crashes < SUSPICIOUS:
            started[delivery] = job
            await session.commit()
        else:
            await session.rollback()  # it starts later
    return started


async def fill(session: Session, make_job: MakeJob, queue: str, rows: list[dict[str, Any]]) -> list[UUID]:
    ids = []
    for number, row in enumerate(rows):
        columns = {name: value for name, value in row.items() if name != "is_cancelled"}
        ids.append(await make_job(queue=queue, due_in=timedelta(seconds=number - 100), **columns))
        if row["is_cancelled"]:
            session.add(JobCancellation(job_id=ids[-1]))
    await session.commit()
    return ids


async def shown(session: Session, job_id: UUID) -> dict[str, Any]:
    """All that is stored of a job; of times only whether they are set, and of a lease whether it is renewed."""
    job = await stored(session, job_id)
    row = {column.key: getattr(job, column.key) for column in inspect(Job).columns}
    times = {name: value is None for name, value in row.items() if name.endswith("_at")}
    return {**row, **times, "id": None, "queue": None, "leased": await is_due_within(session, job, LEASE)}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROWS, max_size=7),
    max_jobs=st.integers(1, 8),
    own=st.integers(0, 4),
    elsewhere=st.integers(0, 4),
    limit=st.one_of(st.none(), st.integers(1, 4)),
)
async def test_a_claim_that_starts_jobs_is_a_claim_and_a_start_of_each(
    session: Session,
    make_job: MakeJob,
    *,
    rows: list[dict[str, Any]],
    max_jobs: int,
    own: int,
    elsewhere: int,
    limit: int | None,
) -> None:
    slots = Slots(STARTER, own, own + elsewhere)
    for queue in ("fused", "apart"):
        await session.merge(JobQueue(name=queue, max_running=limit))
    fused_ids = await fill(session, make_job, "fused", rows)
    apart_ids = await fill(session, make_job, "apart", rows)

    fused = await claim_for(session, "fused", max_jobs=max_jobs, slots=slots)
    apart = await claim_for(session, "apart", max_jobs=max_jobs, slots=replace(slots, own=0))
    started = await start_apart(session, apart, slots)

    twin = dict(zip(fused_ids, apart_ids, strict=True))
    assert [twin[each.id] for each in (*fused.own, *fused.deliveries)] == [each.id for each in apart.deliveries]
    assert {twin[each.id]: replace(job, run_at=EPOCH) for each, job in fused.started.items()} == {
        each.id: replace(job, run_at=EPOCH) for each, job in started.items()
    }
    assert set(fused.started) <= set(fused.own)
    assert replace(fused, deliveries=(), own=(), started={}) == replace(apart, deliveries=(), own=(), started={})
    for one, other in twin.items():
        assert await shown(session, one) == await shown(session, other)
    await session.execute(delete(Job))
    await session.commit()


@pytest.mark.parametrize(
    ("count", "elsewhere", "started"),
    [(1, 7, 1), (2, 3, 1), (5, 3, 3), (9, 0, 3), (9, 6, 3), (4, 3, 2), (0, 0, 0)],
)
async def test_a_process_starts_its_share_of_what_all_free_slots_can_take(
    session: Session, make_job: MakeJob, count: int, elsewhere: int, started: int
) -> None:
    wanted = [await make_job(kind="leased", due_in=timedelta(seconds=number - 100)) for number in range(count)]

    claim = await claim_for(session, "default", max_jobs=10, slots=Slots(STARTER, 3, 3 + elsewhere))

    assert [delivery.id for delivery in claim.own] == wanted[:started]
    assert list(claim.started) == list(claim.own)
    assert [delivery.id for delivery in claim.deliveries] == wanted[started:]


async def test_a_job_in_tx_mode_does_not_start_with_its_claim(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job(kind="tx")

    claim = await claim_for(session, "default", max_jobs=1, slots=Slots(STARTER, 1, 1))

    assert (claim.own, claim.deliveries, claim.started) == ((Delivery(job_id, 1),), (), {})
    assert (await stored(session, job_id)).state is JobState.DISPATCHED


@pytest.mark.parametrize(("kind", "waits"), [("leased", "on"), ("tx", "off")])
async def test_a_start_is_on_the_disk_before_its_job_runs(
    database: Database, session: Session, make_job: MakeJob, kind: str, waits: str
) -> None:
    """Else a crash of Postgres would bring the job back with the fence that a running handler has."""
    await make_job(kind=kind)
    async with database.sessions() as relay:
        await relay.execute(text("SET synchronous_commit = on"))  # servers of tests have it off
        await claims.claim(relay, queue="default", max_jobs=1, lease=LEASE, slots=Slots(STARTER, 1, 1))

        assert (await relay.scalars(text("SHOW synchronous_commit"))).one() == waits
        await relay.rollback()


async def test_relays_that_claim_at_once_start_no_more_than_the_limit_allows(
    database: Database, session: Session, make_job: MakeJob
) -> None:
    """As https://github.com/janbjorge/pgqueuer/issues/761 and https://github.com/graphile/worker/issues/621 did."""
    await session.merge(JobQueue(name="default", max_running=1))
    await session.commit()
    for _ in range(6):
        await make_job(kind="leased")

    async def relay() -> Claim:
        async with database.sessions() as own:
            return await claim_for(own, "default", max_jobs=3, slots=Slots(STARTER, 3, 3))

    found = await asyncio.gather(*(relay() for _ in range(3)))

    assert sum(len(claim.started) for claim in found) == 1


async def test_what_a_claim_has_started_for_nobody_is_due_again(session: Session, make_job: MakeJob) -> None:
    async def started(starter: Starter = STARTER, *, queue: str = "default") -> Delivery:
        await make_job(kind="leased", queue=queue)
        claim = await claim_for(session, queue, max_jobs=1, slots=Slots(starter, 1, 1))
        assert claim.started
        return claim.own[0]

    lost, held, late = await started(), await started(), await started()
    others, elsewhere = await started(OTHER), await started(queue="mail")
    await let_lease_run_out(session, late.id)

    await claims.make_lost_due(session, ["default"], worker_id=STARTER.worker_id, held_ids=[held.id])
    await session.commit()

    job = await stored(session, lost.id)
    assert (job.state, job.attempt, job.crashes, job.fence) == (JobState.AVAILABLE, 0, 0, lost.fence)
    for delivery in (held, late, others, elsewhere):
        assert (await stored(session, delivery.id)).state is JobState.EXECUTING
