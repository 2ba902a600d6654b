"""Ends jobs that wait, and asks those that run to end; the jobs of a filter are found by the index of each state."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import Select, exists, func, select, union_all, update
from sqlalchemy.dialects.postgresql import insert

from app_db.jobs import index_scans
from app_db.jobs.after_commit import notify_after_commit
from app_db.jobs.filters import JobFilter, is_in
from app_db.models import Job, JobCancellation, JobState
from app_db.repositories.limits import unseen
from app_db.session import Session

_NO_SYNC = {"synchronize_session": False}


def matching(
    job_filter: JobFilter, states: Collection[JobState], *, most_looked_at: int | None = None
) -> list[Select[UUID]]:
    """Return queries for the ids of the jobs in these states that match, one for each index that has some of them.

    Of jobs that are in no index of their kind, no more than `most_looked_at` are looked at.
    """
    if job_filter.ids is not None or job_filter.owner_id is not None:
        return [select(Job.id).where(is_in(states), *job_filter.conditions())]
    chosen = set(states) if job_filter.state is None else {job_filter.state} & set(states)
    looks = index_scans.looks(chosen, job_filter)
    return [look.all() if most_looked_at is None else look.among_the_first(most_looked_at) for look in looks]


async def end_waiting(session: Session, state: JobState, jobs: Sequence[Select[UUID]], *, limit: int) -> int:
    """Move waiting jobs to a final state and return how many; skip locked rows, which a relay or a runner uses."""
    # NO KEY: the foreign key of a cancellation request must not wait for these locks.
    lock = [each.limit(unseen(limit)).with_for_update(key_share=True, skip_locked=True).cte() for each in jobs]
    if not lock:
        return 0
    locked = union_all(*(select(each.c.id) for each in lock)).limit(limit).scalar_subquery()
    # An array, so that the rows are found by their ids whatever the planner expects.
    statement = update(Job).where(Job.id == func.any(func.array(locked)))
    statement = statement.values(state=state, claim_at=None, finished_at=func.now()).returning(Job.id)
    return len((await session.scalars(statement, execution_options=_NO_SYNC)).all())


async def request_cancellations(session: Session, jobs: Sequence[Select[UUID]], *, limit: int) -> int:
    """Write cancellation requests for those of the jobs that have none, and return how many."""
    is_requested = exists().where(JobCancellation.job_id == Job.id)
    parts = [each.where(~is_requested).limit(unseen(limit)).subquery() for each in jobs]
    if not parts:
        return 0
    chosen = union_all(*(select(each.c.id) for each in parts)).limit(limit)
    statement = insert(JobCancellation).from_select(["job_id"], chosen).on_conflict_do_nothing()
    requested = (await session.scalars(statement.returning(JobCancellation.job_id))).all()
    if requested:
        notify_after_commit(session)  # guard: test_workers_look_at_once_when_there_is_something_for_them
    return len(requested)
