"""The functions with which tests of jobs read the ledger and move it on."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app_db import Database, Session
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs import control
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.models import Job, JobState
from app_db.testing.jobs import (
    assert_enqueued,
    dispatch,
    due_queues,
    enqueued,
    make_due,
    open_jobs,
    refute_enqueued,
)
from app_db.types import utcnow


class Note(JobPayload):
    """The job of these tests."""

    kind = "test.note"
    text: str = "hello"


async def add_note(database: Database, payload: Note | None = None, *, queue: str = "default") -> UUID:
    async with database.sessions.begin() as session:
        return await enqueue(session, payload or Note(), queue=queue)


async def add(database: Database, *, hours: int = 0, queue: str = "default") -> UUID:
    run_at = utcnow() + timedelta(hours=hours) if hours else None
    async with database.sessions.begin() as session:
        return await enqueue(session, PruneSessions(), queue=queue, run_at=run_at)


async def due(session: Session) -> list[UUID]:
    jobs = [job for job in await open_jobs(session) if job.claim_at is not None and job.claim_at <= utcnow()]
    return [job.id for job in sorted(jobs, key=lambda job: job.claim_at or datetime.max.replace(tzinfo=UTC))]


async def test_a_job_that_is_enqueued_is_found_by_its_class_and_fields(database: Database) -> None:
    await add_note(database, Note(text="one"))
    job_id = await add_note(database, Note(text="two"), queue="mail")

    job = await assert_enqueued(database, Note, text="two")

    assert (job.id, job.queue) == (job_id, "mail")


async def test_a_session_shows_what_its_own_transaction_enqueues_and_the_database_does_not(
    database: Database, session: Session
) -> None:
    await enqueue(session, Note())

    assert len(await enqueued(session, Note)) == 1
    assert await enqueued(database, Note) == []


async def test_the_message_of_a_missing_job_lists_what_is_enqueued(database: Database) -> None:
    await add_note(database, Note(text="one"), queue="mail")

    with pytest.raises(pytest.fail.Exception) as failed:
        await assert_enqueued(database, Note, text="two")

    assert str(failed.value).startswith("wanted one Note(text='two'), found none. Waiting to run are:\n")
    assert '  test.note {"text": "one"} (available, queue mail, run_at ' in str(failed.value)


async def test_a_job_that_was_enqueued_twice_is_not_one(database: Database) -> None:
    await add_note(database)
    await add_note(database)

    with pytest.raises(pytest.fail.Exception, match="found 2"):
        await assert_enqueued(database, Note)


async def test_no_job_is_enqueued_where_there_is_none_of_its_class(database: Database) -> None:
    await add_note(database)

    await refute_enqueued(database, PruneSessions)


async def test_a_job_that_should_not_be_enqueued_is_reported(database: Database) -> None:
    await add_note(database)

    with pytest.raises(pytest.fail.Exception, match=r"wanted no Note\(\), found 1\. Waiting to run are:\n  test.note"):
        await refute_enqueued(database, Note)


async def test_where_nothing_waits_the_message_says_so(database: Database) -> None:
    with pytest.raises(pytest.fail.Exception, match="Nothing waits to run"):
        await assert_enqueued(database, Note)


async def test_a_field_that_the_payload_does_not_have_is_an_error(database: Database) -> None:
    with pytest.raises(TypeError, match="Note has no field sender, title"):
        await assert_enqueued(database, Note, title="x", sender="y")


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
