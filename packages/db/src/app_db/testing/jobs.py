"""The job ledger as tests look at it and move it on."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, text

from app_db.engine import Session
from app_db.jobs.control import FINAL
from app_db.jobs.ledger import Delivery
from app_db.models import Job


_MAKE_DUE = text("""
    WITH waiting AS (
        SELECT id, row_number() OVER (ORDER BY claim_at DESC, id DESC) AS place FROM jobs
        WHERE state IN ('scheduled', 'retryable')
            AND claim_at > now() AND claim_at <= coalesce(CAST(:until AS timestamptz), 'infinity')
    )
    UPDATE jobs SET claim_at = now() - place * interval '1 microsecond' FROM waiting WHERE jobs.id = waiting.id
""")

_DISPATCH = text("""
    UPDATE jobs SET state = 'dispatched', fence = fence + 1 WHERE id = :id AND state = 'available' RETURNING fence
""")


async def open_jobs(session: Session) -> list[Job]:
    """Return all jobs that have not ended, in the order in which they were enqueued."""
    statement = select(Job).where(Job.state.not_in(FINAL)).order_by(Job.id)
    return list(await session.scalars(statement, execution_options={"populate_existing": True}))


async def due_queues(session: Session) -> list[str]:
    """Return the queues that have a job that is due."""
    statement = select(Job.queue).where(Job.claim_at <= func.now()).distinct().order_by(Job.queue)
    return list(await session.scalars(statement))


async def make_due(session: Session, *, until: datetime | None = None) -> None:
    """Let every job that waits for its time, or for its next attempt, be due now; with `until`, if it would be by then.

    They stay in the order in which they would have been due.
    """
    await session.execute(_MAKE_DUE, {"until": until})


async def dispatch(session: Session, job_id: UUID) -> Delivery | None:
    """Deliver one job within this transaction; None when it is not due."""
    row = (await session.execute(_DISPATCH, {"id": job_id})).one_or_none()
    return None if row is None else Delivery(job_id, row.fence)
