"""Deletes jobs that have ended, before retention does."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select

from app_db.errors import Conflict, NotFound
from app_db.jobs import index_scans
from app_db.jobs.filters import is_in
from app_db.models import FINAL_STATES, Job
from app_db.session import Session


class JobIsOpen(Conflict):
    """The job has not ended: cancel it first."""

    code = "job_is_open"


async def delete_job(session: Session, job_id: UUID) -> str:
    """Delete a job that has ended, with its errors, and return its kind.

    Raises:
        NotFound: there is no such job.
        JobIsOpen: it waits or runs.

    Example:
        job_id = await enqueue(session, EndSessions(user_id=ada.id))
        await cancel(session, job_id)
        assert await delete_job(session, job_id) == "sessions.end"
    """
    statement = delete(Job).where(Job.id == job_id, Job.state.in_(FINAL_STATES)).returning(Job.kind)
    kind = (await session.scalars(statement, execution_options=_NO_SYNC)).one_or_none()
    if kind is not None:
        return kind
    if (await session.scalars(select(Job.id).where(Job.id == job_id))).one_or_none() is None:
        raise NotFound
    raise JobIsOpen  # guard: test_a_job_that_has_not_ended_is_not_deleted


async def delete_ended(session: Session, conditions: Sequence[ColumnElement[bool]], *, limit: int) -> int:
    """Delete up to `limit` jobs that have ended and meet the conditions; return how many. Locked rows are skipped."""
    ended = index_scans.ENDED.applied_to(select(Job.id).where(is_in(FINAL_STATES), *conditions))
    chosen = ended.limit(limit).with_for_update(skip_locked=True).cte("chosen")
    statement = delete(Job).where(Job.id == chosen.c.id).returning(Job.id)
    return len((await session.scalars(statement, execution_options=_NO_SYNC)).all())


_NO_SYNC = {"synchronize_session": False}
