"""Accepting many jobs at once."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select

from app_db import Database, Session
from app_db.clock import database_time
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.outbox import enqueue_many
from app_db.jobs.payload import JobPayload
from app_db.models import Job, JobState
from app_db.testing.queries import assert_queries
from app_db.types import new_id


async def all_jobs(session: Session) -> list[Job]:
    return list(await session.scalars(select(Job).order_by(Job.id)))


async def test_many_jobs_are_one_insert(database: Database, session: Session) -> None:
    with assert_queries(database, max=1):
        ids = await enqueue_many(session, [PruneSessions()] * 1000)

    assert await session.scalar(select(func.count()).select_from(Job)) == len(set(ids)) == 1000


async def test_no_jobs_are_no_statement(database: Database, session: Session) -> None:
    with assert_queries(database, max=0):
        assert await enqueue_many(session, []) == []


async def test_many_jobs_may_be_of_any_kinds(session: Session) -> None:
    user_id = new_id()
    payloads: list[JobPayload] = [PruneSessions(), WelcomeEmail(user_id=user_id), PruneSessions()]

    ids = await enqueue_many(session, iter(payloads))

    assert [(job.id, job.kind, job.payload, job.payload_version) for job in await all_jobs(session)] == [
        (ids[0], "sessions.prune", {}, 1),
        (ids[1], "email.welcome", {"user_id": str(user_id)}, 1),
        (ids[2], "sessions.prune", {}, 1),
    ]


async def test_many_jobs_are_available_at_once_with_modest_defaults(session: Session) -> None:
    await enqueue_many(session, [PruneSessions()])

    (job,) = await all_jobs(session)
    now = await database_time(session)  # the beginning of the transaction
    assert (job.state, job.run_at, job.claim_at) == (JobState.AVAILABLE, now, now)
    assert (job.queue, job.priority, job.max_attempts, job.owner_id, job.request_id) == ("default", 2, None, None, None)


async def test_many_jobs_keep_what_they_were_enqueued_with(session: Session) -> None:
    owner_id = new_id()
    tomorrow = await database_time(session) + timedelta(days=1)

    await enqueue_many(
        session, [PruneSessions()], run_at=tomorrow, queue="mail", priority=0, max_attempts=3, owner_id=owner_id
    )

    (job,) = await all_jobs(session)
    assert (job.state, job.run_at, job.claim_at) == (JobState.SCHEDULED, tomorrow, tomorrow)
    assert (job.queue, job.priority, job.max_attempts, job.owner_id) == ("mail", 0, 3, owner_id)


async def test_many_jobs_remember_the_request_that_made_them(database: Database) -> None:
    async with database.unit_of_work(request_id="request-1") as session:
        await enqueue_many(session, [PruneSessions()])

        assert [job.request_id for job in await all_jobs(session)] == ["request-1"]


async def test_many_jobs_on_impossible_terms_are_refused(session: Session) -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        await enqueue_many(session, [], run_at=datetime(2026, 3, 29, 2, 30))  # noqa: DTZ001  # what is tested


async def test_one_wrong_payload_among_many_refuses_them_all(database: Database, session: Session) -> None:
    nobody: Any = "nobody"
    payloads = [PruneSessions(), WelcomeEmail.model_construct(user_id=nobody)]

    with assert_queries(database, max=0), pytest.raises(ValidationError):
        await enqueue_many(session, payloads)


async def test_many_jobs_are_counted_by_kind_when_they_are_committed(database: Database, session: Session) -> None:
    before = database.enqueued.copy()
    await enqueue_many(session, [PruneSessions(), WelcomeEmail(user_id=new_id()), PruneSessions()])

    await session.commit()

    assert database.enqueued - before == {"sessions.prune": 2, "email.welcome": 1}


async def test_many_jobs_that_are_to_run_inline_run_in_their_order(session: Session) -> None:
    ran: list[UUID] = []

    async def run(session: Session, job_id: UUID) -> None:
        ran.append(job_id)

    session.info["run_inline"] = run

    ids = await enqueue_many(session, [PruneSessions(), PruneSessions()])

    assert ran == ids
