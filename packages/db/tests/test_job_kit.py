"""The ledger as tests of jobs look at it and move it on."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from app_db import Database, Session
from app_db.jobs import control
from app_db.jobs.catalog import PruneSessions
from app_db.jobs.outbox import enqueue
from app_db.models import Job, JobState
from app_db.testing.jobs import dispatch, due_queues, make_due, open_jobs
from app_db.types import utcnow


async def add(database: Database, *, hours: int = 0, queue: str = "default") -> UUID:
    run_at = utcnow() + timedelta(hours=hours) if hours else None
    async with database.sessions.begin() as session:
        return await enqueue(session, PruneSessions(), queue=queue, run_at=run_at)


async def due(session: Session) -> list[UUID]:
    jobs = [job for job in await open_jobs(session) if job.claim_at is not None and job.claim_at <= utcnow()]
    return [job.id for job in sorted(jobs, key=lambda job: job.claim_at or datetime.max.replace(tzinfo=UTC))]


async def test_open_jobs_are_those_that_have_not_ended(database: Database, session: Session) -> None:
    first, ended, second = [await add(database) for _ in range(3)]
    await control.discard(session, ended)

    jobs = await open_jobs(session)

    assert [job.id for job in jobs] == [first, second]


async def test_queues_without_due_jobs_are_left_out(database: Database, session: Session) -> None:
    await add(database, queue="b")
    await add(database, queue="a")
    await add(database, queue="later", hours=1)

    assert await due_queues(session) == ["a", "b"]


async def test_what_is_made_due_keeps_its_order(database: Database, session: Session) -> None:
    third, first, second = [await add(database, hours=hours) for hours in (3, 1, 2)]

    await make_due(session)
    await session.commit()

    assert await due(session) == [first, second, third]


async def test_what_would_be_due_later_than_a_time_stays(database: Database, session: Session) -> None:
    await add(database, hours=3)
    first = await add(database, hours=1)

    await make_due(session, until=utcnow() + timedelta(hours=2))
    await session.commit()

    assert await due(session) == [first]


async def test_a_due_job_is_dispatched_in_the_callers_transaction(database: Database, session: Session) -> None:
    job_id = await enqueue(session, PruneSessions())

    delivery = await dispatch(session, job_id)

    assert delivery is not None
    job = await session.get_one(Job, job_id)
    assert (job.id, job.fence, job.state) == (delivery.id, delivery.fence, JobState.DISPATCHED)


async def test_a_scheduled_job_is_not_dispatched(database: Database, session: Session) -> None:
    job_id = await add(database, hours=1)

    assert await dispatch(session, job_id) is None
