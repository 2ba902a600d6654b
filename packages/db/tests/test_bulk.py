"""Acting on any number of jobs, a batch at a time."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from app_db import Session
from app_db.jobs.bulk import act_on_batch, count_range
from app_db.jobs.control import Action
from app_db.jobs.counting import Count, count_all
from app_db.jobs.filters import JobFilter
from app_db.models import FINAL_STATES, Job, JobState
from app_db.types import first_id_at, new_id, utcnow

HOUR = timedelta(hours=1)
OWNER = UUID(int=7)
type AddJob = Callable[..., Awaitable[UUID]]


@pytest.fixture
def add_job(session: Session) -> AddJob:
    """Return a function that adds a job which was enqueued some hours ago."""

    async def add(state: JobState = JobState.AVAILABLE, *, hours: int = 0, **columns: Any) -> UUID:  # Any: columns
        rest = new_id().int & ((1 << 80) - 1)
        job_id = UUID(int=first_id_at(utcnow() - hours * HOUR).int | rest)
        times = {"finished_at": func.now()} if state in FINAL_STATES else {"claim_at": func.now() - HOUR}
        about = {"kind": "test", "payload": {}, "payload_version": 1, "state": state}
        session.add(Job(id=job_id, **{**about, **times, **columns}))
        await session.flush()
        return job_id

    return add


async def walk(session: Session, job_filter: JobFilter, action: Action, *, until: UUID, most: int) -> list[int]:
    """Walk to the end; return how many jobs each batch acted on."""
    acted: list[int] = []
    after: UUID | None = None
    for _ in range(100):
        batch = await act_on_batch(session, job_filter, action, after=after, until=until, most=most)
        acted.append(batch.acted_on)
        after = batch.last_id
        if after is None:
            return acted
    raise AssertionError("it does not end")


async def test_a_walk_meets_each_job_once_and_nothing_that_came_later(session: Session, add_job: AddJob) -> None:
    jobs = [await add_job(hours=5 - number) for number in range(5)]
    until = new_id()
    later = await add_job(hours=-1)

    acted = await walk(session, JobFilter(kind="test"), Action.DISCARD, until=until, most=2)

    assert acted == [2, 2, 1]
    assert await count_range(session, JobFilter(kind="test"), until=until) == 5
    states = {row.id: row.state for row in await session.execute(select(Job.id, Job.state))}
    assert [states[job_id] for job_id in jobs] == [JobState.DISCARDED] * 5
    assert states[later] is JobState.AVAILABLE


async def test_a_job_that_is_retried_and_fails_again_is_retried_once(session: Session, add_job: AddJob) -> None:
    job_id = await add_job(JobState.DISCARDED, hours=1)
    other = await add_job(JobState.COMPLETED, hours=0)
    step = partial(act_on_batch, session, JobFilter(kind="test"), Action.RETRY, until=new_id(), most=1)
    first = await step(after=None)
    job = await session.get_one(Job, job_id, populate_existing=True)
    job.state, job.claim_at, job.finished_at = JobState.DISCARDED, None, func.now()
    await session.flush()

    second = await step(after=first.last_id)

    assert (first.acted_on, first.last_id) == (1, job_id)
    assert (second.looked_at, second.acted_on, second.last_id) == (1, 0, other)


@pytest.mark.parametrize(
    ("job_filter", "found"),
    [
        (JobFilter(owner_id=OWNER), 2), (JobFilter(owner_id=OWNER, kind="mail"), 1), (JobFilter(kind="mail"), 2),
        (JobFilter(queue="slow"), 1), (JobFilter(state=JobState.SCHEDULED), 1), (JobFilter(kind="misspelt"), 0),
        (JobFilter(since=utcnow() - 3 * HOUR), 2), (JobFilter(before=utcnow() - 3 * HOUR), 3),
    ],
)  # fmt: skip
async def test_a_walk_heeds_the_whole_filter(
    session: Session, add_job: AddJob, job_filter: JobFilter, found: int
) -> None:
    await add_job(hours=9, owner_id=OWNER)
    await add_job(hours=8, owner_id=OWNER, kind="mail")
    await add_job(hours=7, queue="slow")
    await add_job(hours=2, kind="mail")
    await add_job(JobState.SCHEDULED, hours=1)

    assert sum(await walk(session, job_filter, Action.CANCEL, until=new_id(), most=2)) == found


@settings(
    max_examples=25, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(
    rows=st.lists(st.tuples(st.sampled_from(JobState), st.sampled_from(["a", "b"])), max_size=9),
    action=st.sampled_from(Action),
    state=st.none() | st.sampled_from(JobState),
    kind=st.none() | st.just("a"),
    most=st.integers(1, 10),
)
async def test_batches_of_any_size_act_on_as_many_as_were_counted(  # hypothesis gives them by name
    session: Session, add_job: AddJob, rows: list[tuple[JobState, str]], action: Action, state: JobState | None,
    kind: str | None, most: int,
) -> None:  # fmt: skip
    await session.execute(delete(Job))
    for job_state, job_kind in rows:
        await add_job(job_state, kind=job_kind)
    job_filter = JobFilter(state=state, kind=kind, queue="default")
    counted = await count_all(session, job_filter, action, most=100)

    acted = await walk(session, job_filter, action, until=first_id_at(utcnow() + HOUR), most=most)

    assert Count(sum(acted), at_least=False) == counted
    assert len(acted) == len(rows) // most + 1
