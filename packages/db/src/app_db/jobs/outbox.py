"""Accepting jobs: a row in the caller's transaction, so a job exists exactly when what it belongs to does."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, bindparam, case, func, insert

from app_db.engine import Session
from app_db.jobs.commits import count_after_commit
from app_db.jobs.payload import JobPayload
from app_db.models import Job, JobState
from app_db.types import new_id

_RUN_AT = func.coalesce(bindparam("due", type_=DateTime(timezone=True)), func.now())

# Built once: building a statement costs more than running it. Postgres's clock decides what is due, never ours.
_INSERT = insert(Job).values(
    run_at=_RUN_AT,
    claim_at=_RUN_AT,
    state=case((func.now() < _RUN_AT, JobState.SCHEDULED), else_=JobState.AVAILABLE),
)


async def enqueue(
    session: Session,
    payload: JobPayload,
    *,
    run_at: datetime | None = None,
    queue: str = "default",
    priority: int = 2,
    max_attempts: int | None = None,
    owner_id: UUID | None = None,
) -> UUID:
    """Accept a job as part of the caller's transaction and return its id: one INSERT, nothing sent anywhere.

    It is rolled back with the transaction; once committed it runs, whatever dies in between (docs/jobs.md).

    Args:
        session: whose transaction it joins.
        payload: what to do; its class decides which handler runs.
        run_at: not before this time, by Postgres's clock; at once if absent.
        queue: the queue whose workers run it.
        priority: 0 is served first.
        max_attempts: instead of the handler's own limit.
        owner_id: who may see it under `GET /jobs`.
    """
    job_id = new_id()
    columns = {
        "id": job_id,
        "owner_id": owner_id,
        "kind": payload.kind,
        "payload": payload.model_dump(mode="json"),
        "payload_version": payload.version,
        "queue": queue,
        "priority": priority,
        "max_attempts": max_attempts,
        "request_id": session.info.get("request_id"),
        "due": run_at,
    }
    await session.execute(_INSERT, columns)
    count_after_commit(session, [payload.kind])
    return job_id
