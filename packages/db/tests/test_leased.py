"""Jobs in lease mode that start and end in one statement: each by itself, as if it had been asked for alone."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, text

from app_db import Database, Session
from app_db.jobs import ledger
from app_db.jobs.leased import LeasedJobs
from app_db.jobs.ledger import Delivery, StartedJob, Starter
from app_db.models import Job, JobCancellation, JobState
from app_db.testing.queries import assert_queries
from app_db.types import new_id

from .ledger_steps import (
    LEASE,
    MakeJob,
    claim,
    claimed,
    complete_alone,
    complete_with_others,
    executing,
    is_due_within,
    let_lease_run_out,
    overtaken,
    start,
    start_with_others,
    stored,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STARTER = Starter(new_id(), ["test"], LEASE)


@pytest.fixture
def leased(database: Database) -> LeasedJobs:
    return LeasedJobs(database, STARTER)


@asynccontextmanager
async def locked(database: Database, delivery: Delivery) -> AsyncIterator[None]:
    async with database.sessions.begin() as session:
        await session.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": delivery.id})
        yield


async def cancelling(session: Session) -> Delivery:
    delivery = await claimed(session)
    session.add(JobCancellation(job_id=delivery.id))
    await session.commit()
    return delivery


async def cancelling_late(session: Session) -> Delivery:
    delivery = await executing(session)
    session.add(JobCancellation(job_id=delivery.id))
    await session.commit()
    return delivery


async def completed(session: Session) -> Delivery:
    delivery = await claimed(session)
    await start(session, delivery, leased=False)
    return delivery


async def crashed(session: Session) -> Delivery:
    delivery = await executing(session)
    await let_lease_run_out(session, delivery.id)
    return await claimed(session)


SITUATIONS: list[Callable[[Session], Coroutine[Any, Any, Delivery]]] = [
    claimed, executing, overtaken, cancelling, cancelling_late, completed, crashed,
]  # fmt: skip
KINDS = st.sampled_from(["test", "tx"])
CASES = st.lists(st.tuples(st.sampled_from(SITUATIONS), KINDS, st.booleans()), min_size=1, max_size=6)


async def shown(session: Session, delivery: Delivery) -> dict[str, Any]:
    """All that is stored of a job; of times only whether they are set, and of a lease whether it is renewed."""
    job = await stored(session, delivery.id)
    row = {column.key: getattr(job, column.key) for column in inspect(Job).columns}
    row["worker_id"] = row["worker_id"] == STARTER.worker_id
    shown = {name: value for name, value in row.items() if not name.endswith("_at") and name != "id"}
    times = {name: value is None for name, value in row.items() if name.endswith("_at")}
    return {**shown, **times, "leased": await is_due_within(session, job, LEASE)}


def without_time(started: StartedJob | None) -> StartedJob | None:
    return started and replace(started, run_at=EPOCH)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases=CASES)
async def test_what_is_asked_together_ends_as_what_is_asked_alone(
    database: Database, session: Session, make_job: MakeJob, leased: LeasedJobs, cases: list[tuple[Any, str, bool]]
) -> None:
    alone: list[tuple[Delivery, bool]] = []
    together: list[tuple[Delivery, bool]] = []
    for situation, kind, starts in cases:
        for asked in (alone, together):
            await make_job(kind=kind)
            asked.append((await situation(session), starts))

    async def ask_together(delivery: Delivery, *, starts: bool) -> Any:
        if starts:
            return without_time(await start_with_others(database, leased, delivery, STARTER))
        return await complete_with_others(database, leased, delivery, ["done"])

    async def ask_alone(delivery: Delivery, *, starts: bool) -> Any:
        if not starts:
            return await complete_alone(database, delivery, ["done"])
        async with database.sessions.begin() as own:
            return without_time(await ledger.start(own, delivery, STARTER))

    replies = await asyncio.gather(*(ask_together(delivery, starts=starts) for delivery, starts in together))

    assert replies == [await ask_alone(delivery, starts=starts) for delivery, starts in alone]
    for (one, _), (other, _) in zip(together, alone, strict=True):
        assert await shown(session, one) == await shown(session, other)


async def test_each_row_of_a_group_is_fenced_by_itself(
    database: Database, session: Session, make_job: MakeJob, leased: LeasedJobs
) -> None:
    await make_job()
    old = await overtaken(session)
    await make_job()
    ours = await executing(session)
    nobody = Delivery(new_id(), 1)

    with assert_queries(database, max=1):
        ends = [leased.complete(each, result="late", progress=None) for each in (old, ours, nobody)]
        assert await asyncio.gather(*ends) == [False, True, False]

    assert (await stored(session, ours.id)).state is JobState.COMPLETED
    assert (await stored(session, old.id)).state is JobState.EXECUTING


async def test_jobs_of_one_moment_start_in_one_statement(
    database: Database, session: Session, make_job: MakeJob, leased: LeasedJobs
) -> None:
    for number in range(3):
        await make_job(payload={"n": number})
    deliveries = await claim(session)

    with assert_queries(database, max=1):
        started = await asyncio.gather(*map(leased.start, deliveries))

    assert [job and json.loads(job.payload) for job in started] == [
        (await stored(session, delivery.id)).payload for delivery in deliveries
    ]


async def test_of_two_equal_deliveries_in_a_group_one_starts(
    session: Session, make_job: MakeJob, leased: LeasedJobs
) -> None:
    """Valkey's client may push again what has arrived, and been taken, before its connection was lost."""
    await make_job()
    delivery = await claimed(session)

    started = await asyncio.gather(leased.start(delivery), leased.start(delivery))

    assert [job is None for job in started] == [False, True]


async def test_a_result_that_postgres_refuses_is_an_error_of_its_own_job(
    database: Database, session: Session, make_job: MakeJob, leased: LeasedJobs
) -> None:
    await make_job()
    bad = await executing(session)
    await make_job()
    good = await executing(session)

    ends = [complete_with_others(database, leased, bad, "\0"), complete_with_others(database, leased, good, "good")]
    failure, is_ours = await asyncio.gather(*ends, return_exceptions=True)

    assert isinstance(failure, Exception)
    assert is_ours is True
    assert (await stored(session, good.id)).result == "good"
    assert (await stored(session, bad.id)).state is JobState.EXECUTING


async def test_a_row_that_is_locked_keeps_no_other_waiting(
    database: Database, session: Session, make_job: MakeJob, leased: LeasedJobs
) -> None:
    await make_job()
    held = await executing(session)
    await make_job()
    free = await executing(session)

    async with locked(database, held), asyncio.timeout(30):
        ends = [leased.complete(each, result=None, progress=None) for each in (held, free)]
        assert await asyncio.gather(*ends) == [False, True]

    assert await complete_with_others(database, leased, held, "later")


@pytest.mark.parametrize("progress", [None, {"done": 1}])
async def test_the_completion_of_a_group_keeps_the_progress_unless_it_brings_one(
    database: Database, session: Session, make_job: MakeJob, leased: LeasedJobs, progress: Any
) -> None:
    job_id = await make_job(progress={"done": 0})

    assert await leased.complete(await executing(session), result=None, progress=progress)

    assert (await stored(session, job_id)).progress == (progress or {"done": 0})
    async with database.read_sessions() as reader:
        assert await reader.scalar(text("SELECT result IS NULL FROM jobs"))


async def test_a_start_of_a_group_lasts_as_long_as_the_lease(
    session: Session, make_job: MakeJob, leased: LeasedJobs
) -> None:
    job_id = await make_job(max_attempts=4, owner_id=new_id(), request_id="request-1")

    started = await leased.start(await claimed(session))

    job = await stored(session, job_id)
    assert started is not None
    assert (started.is_marked, started.attempt, started.owner_id) == (True, 1, job.owner_id)
    assert (job.state, job.worker_id) == (JobState.EXECUTING, STARTER.worker_id)
    assert await is_due_within(session, job, LEASE)
    assert not await is_due_within(session, job, LEASE - timedelta(seconds=50))
