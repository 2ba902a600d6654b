"""Lets a job that waits run at another time."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from app_db.errors import NotFound
from app_db.jobs.after_commit import notify_after_commit
from app_db.jobs.bounds import require_run_at
from app_db.jobs.control import JobIsFinal, JobIsRunning
from app_db.models import FINAL_STATES, JobState
from app_db.session import Session

# Unlike a claim it does not skip a locked row: the job may have been claimed when it gets the lock.
_RESCHEDULE = text("""
    WITH job AS (
        SELECT id, state FROM jobs WHERE id = :id
    ), moved AS (
        UPDATE jobs SET run_at = :run_at, claim_at = :run_at, state = CASE
            WHEN state = 'retryable' THEN state WHEN :run_at > now() THEN 'scheduled' ELSE 'available'
        END
        WHERE id = :id AND state IN ('scheduled', 'available', 'retryable') RETURNING id
    )
    SELECT state, EXISTS (SELECT FROM moved) AS is_moved FROM job
""")


async def reschedule(session: Session, job_id: UUID, *, run_at: datetime) -> None:
    """Let a job that waits run at another time, earlier or later; it keeps its attempts.

    Raises:
        NotFound: there is no such job.
        JobIsFinal, JobIsRunning: the job has ended, or has been started.
        ValueError: for a time without a zone, or that the ledger does not keep.

    Example:
        job_id = await enqueue(session, EndSessions(user_id=ada.id))
        await reschedule(session, job_id, run_at=utcnow() + timedelta(hours=1))
    """
    require_run_at(run_at)
    row = (await session.execute(_RESCHEDULE, {"id": job_id, "run_at": run_at})).one_or_none()
    if row is None:
        raise NotFound
    if not row.is_moved:
        raise JobIsFinal if JobState(row.state) in FINAL_STATES else JobIsRunning
    notify_after_commit(session)
