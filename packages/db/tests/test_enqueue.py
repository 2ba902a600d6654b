"""Accepting jobs."""

from app_db import Database, Session
from app_db.jobs.catalog import PruneSessions
from app_db.jobs.outbox import enqueue
from app_db.models import Job, JobState
from app_db.testing.queries import assert_queries


async def test_a_job_is_one_insert_in_the_callers_transaction(database: Database, session: Session) -> None:
    with assert_queries(database, max=1):
        job_id = await enqueue(session, PruneSessions())
        await session.commit()

    job = await session.get(Job, job_id)
    assert job is not None
    assert job.state is JobState.AVAILABLE


async def test_a_job_is_rolled_back_with_its_transaction(database: Database, session: Session) -> None:
    job_id = await enqueue(session, PruneSessions())
    await session.rollback()

    assert await session.get(Job, job_id) is None
