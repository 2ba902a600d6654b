"""Lets tests check the job ledger and make its jobs due; `app_worker.testing` also runs the jobs."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import exists, func, or_, select, text

from app_db.engine import Database
from app_db.jobs.batch_ends import settle
from app_db.jobs.encryption import JobCipher, PayloadKeys, keys_of, shown
from app_db.jobs.ledger import Delivery
from app_db.jobs.payload import JobPayload
from app_db.models import FINAL_STATES, Job, JobBatch, JobState
from app_db.session import Session

_MAKE_DUE = text("""
    WITH waiting AS (
        SELECT id, row_number() OVER (ORDER BY coalesce(due_at, claim_at) DESC, id DESC) AS place FROM jobs
        WHERE state IN ('scheduled', 'retryable') AND coalesce(due_at, claim_at) > now()
            AND coalesce(due_at, claim_at) <= coalesce(CAST(:until AS timestamptz), 'infinity')
    )
    UPDATE jobs SET claim_at = now() - place * interval '1 microsecond' FROM waiting WHERE jobs.id = waiting.id
""")

_DISPATCH = text("""
    UPDATE jobs SET state = 'dispatched', fence = fence + 1
    WHERE id = :id AND (state = 'available' OR due_at <= now()) RETURNING fence
""")


async def enqueued[P: JobPayload](where: Database | Session, payload_class: type[P], **fields: Any) -> list[Job]:
    """Return the jobs of this class that have not ended, oldest first; with `fields`, only those with these values.

    Args:
        where: a database, for committed jobs; a session, for jobs that its own transaction has enqueued as well.
        payload_class: the class of their payloads.
        fields: values of the payload, as they are in Python: `user_id=user.id`.

    Example:
        jobs = await enqueued(database, EndSessions)
        assert [job.payload["user_id"] for job in jobs] == [str(ada.id)]
    """
    if unknown := fields.keys() - payload_class.model_fields.keys():
        raise TypeError(f"{payload_class.__name__} has no field {', '.join(sorted(unknown))}")
    async with _session_of(where) as session:
        jobs = await open_jobs(session)
    keys = where.payload_keys if isinstance(where, Database) else keys_of(where)
    return [job for job in jobs if _matches(job, payload_class, fields, keys)]


async def assert_enqueued[P: JobPayload](where: Database | Session, payload_class: type[P], **fields: Any) -> Job:
    """Fail unless exactly one such job has not ended; returns it, to look at its `queue`, `run_at` or `priority`.

    Arguments as for `enqueued`; jobs that `drain` has run have ended.

    Example:
        job = await assert_enqueued(database, EndSessions, user_id=ada.id)
        assert job.queue == "default"
    """
    __tracebackhide__ = True
    found = await enqueued(where, payload_class, **fields)
    if len(found) != 1:
        pytest.fail(await _message(where, payload_class, fields, wanted="one", found=len(found)))
    return found[0]


async def refute_enqueued[P: JobPayload](where: Database | Session, payload_class: type[P], **fields: Any) -> None:
    """Fail if there is such a job that has not ended. Arguments as for `enqueued`.

    Example:
        await refute_enqueued(database, EndSessions, user_id=bob.id)
    """
    __tracebackhide__ = True
    if found := await enqueued(where, payload_class, **fields):
        pytest.fail(await _message(where, payload_class, fields, wanted="no", found=len(found)))


def line_of(job: Job) -> str:
    """Return a job on one line, for messages."""
    payload = json.dumps(shown(job.payload))
    return f"{job.kind} {payload} ({job.state}, queue {job.queue}, run_at {job.run_at:%Y-%m-%d %H:%M:%SZ})"


async def open_jobs(session: Session) -> list[Job]:
    """Return all jobs that have not ended, in the order in which they were enqueued."""
    statement = select(Job).where(Job.state.not_in(FINAL_STATES)).order_by(Job.id)
    return list(await session.scalars(statement, execution_options={"populate_existing": True}))


async def due_queues(session: Session) -> list[str]:
    """Return the queues that have a job that is due."""
    statement = (
        select(Job.queue)
        .where((Job.claim_at <= func.now()) | (Job.due_at <= func.now()))
        .distinct()
        .order_by(Job.queue)
    )
    return list(await session.scalars(statement))


async def make_due(session: Session, *, until: datetime | None = None) -> None:
    """Make every job due now that waits for its time or its next attempt; with `until`, only those due by then.

    They stay in the order in which they would have been due.
    """
    await session.execute(_MAKE_DUE, {"until": until})


async def dispatch(session: Session, job_id: UUID) -> Delivery | None:
    """Deliver one job within this transaction; None when it is not due."""
    row = (await session.execute(_DISPATCH, {"id": job_id})).one_or_none()
    return None if row is None else Delivery(job_id, row.fence)


async def due_after(session: Session, batch_id: UUID) -> list[UUID]:
    """Return the jobs that are due because a job of this batch has ended: the next of a chain, or the last jobs."""
    last_jobs = await settle(session, [batch_id])
    is_chain = exists().where(JobBatch.id == batch_id, JobBatch.is_chain)
    is_due = or_(Job.state == JobState.AVAILABLE, Job.due_at <= func.now())
    following = select(Job.id).where(Job.batch_id == batch_id, is_due, is_chain)
    return [*(await session.scalars(following)).all(), *last_jobs]


@asynccontextmanager
async def _session_of(where: Database | Session) -> AsyncIterator[Session]:
    if isinstance(where, Database):
        async with where.read_sessions() as session:
            yield session
    else:
        yield where


def _matches(job: Job, payload_class: type[JobPayload], fields: Mapping[str, Any], keys: PayloadKeys) -> bool:
    if job.kind != payload_class.kind:
        return False
    cipher = JobCipher(keys, job.id, job.kind, payload_class.is_encrypted)
    payload = cipher.read(payload_class, job.payload, job.payload_version)
    return all(getattr(payload, name) == value for name, value in fields.items())


async def _message(
    where: Database | Session, payload_class: type[JobPayload], fields: Mapping[str, Any], *, wanted: str, found: int
) -> str:
    wanted_fields = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    async with _session_of(where) as session:
        lines = [line_of(job) for job in await open_jobs(session)]
    there = "\n  ".join(["Waiting to run are:", *lines]) if lines else "Nothing waits to run."
    return f"wanted {wanted} {payload_class.__name__}({wanted_fields}), found {found or 'none'}. {there}"
