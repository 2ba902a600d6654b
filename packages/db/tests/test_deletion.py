"""Deleting jobs that have ended, before retention does."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text

from app_db import Database, Session
from app_db.errors import NotFound
from app_db.jobs.control import Action, act_on_all
from app_db.jobs.deletion import JobIsOpen, delete_job
from app_db.jobs.filters import JobFilter
from app_db.models import FINAL_STATES, OPEN_STATES, Job, JobCancellation, JobError, JobState
from app_db.types import new_id

type MakeEnded = Callable[..., Awaitable[UUID]]


@pytest.fixture
def make(database: Database) -> MakeEnded:
    """Return a factory of committed jobs in any state, each with an error and a request to end."""

    async def make(state: JobState = JobState.COMPLETED, **columns: Any) -> UUID:  # Any: columns of Job
        times = {"finished_at": func.now()} if state in FINAL_STATES else {"claim_at": func.now() + timedelta(hours=1)}
        about = {"id": new_id(), "kind": "test", "payload": {}, "payload_version": 1, "state": state}
        async with database.sessions.begin() as session:
            job = Job(**{**about, **times, **columns})
            session.add(job)
            await session.flush()
            session.add_all([JobError(job_id=job.id, attempt=1, error="boom"), JobCancellation(job_id=job.id)])
        return job.id

    return make


async def left(session: Session) -> set[UUID]:
    return set(await session.scalars(select(Job.id)))


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
async def test_a_job_that_has_ended_is_deleted_with_all_that_belongs_to_it(
    session: Session, make: MakeEnded, state: JobState
) -> None:
    job_id, other = await make(state), await make()

    assert await delete_job(session, job_id) == "test"

    assert await left(session) == {other}
    assert set(await session.scalars(select(JobError.job_id))) == {other}
    assert set(await session.scalars(select(JobCancellation.job_id))) == {other}


@pytest.mark.parametrize("state", sorted(OPEN_STATES))
async def test_a_job_that_has_not_ended_is_not_deleted(session: Session, make: MakeEnded, state: JobState) -> None:
    job_id = await make(state)

    with pytest.raises(JobIsOpen):
        await delete_job(session, job_id)
    count = await act_on_all(session, JobFilter(kind="test"), Action.DELETE)

    assert count == 0
    assert await left(session) == {job_id}


async def test_a_job_that_does_not_exist_cannot_be_deleted(session: Session) -> None:
    with pytest.raises(NotFound):
        await delete_job(session, new_id())


async def test_many_are_deleted_in_steps_and_others_stay(session: Session, make: MakeEnded) -> None:
    ended = [await make(state) for state in (*FINAL_STATES, *FINAL_STATES)]
    stays = {await make(JobState.AVAILABLE), await make(kind="other")}

    counts = [await act_on_all(session, JobFilter(kind="test"), Action.DELETE, limit=4) for _ in range(3)]

    assert counts == [4, len(ended) - 4, 0]
    assert await left(session) == stays


async def test_a_job_that_somebody_has_locked_is_left_out(
    session: Session, database: Database, make: MakeEnded
) -> None:
    locked, free = await make(), await make()
    async with database.sessions.begin() as other:
        await other.execute(text("SELECT FROM jobs WHERE id = :id FOR KEY SHARE"), {"id": locked})

        assert await act_on_all(session, JobFilter(kind="test"), Action.DELETE) == 1

    assert await left(session) == {locked}
    assert free not in await left(session)
