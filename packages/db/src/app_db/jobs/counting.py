"""Counts the jobs that an action on many would act on, each state by its own index."""

from dataclasses import replace

from sqlalchemy import false, func, select, union_all

from app_db.jobs import control, deletion, index_scans
from app_db.jobs.control import QUEUED, Action, FilterTooWide
from app_db.jobs.filters import JobFilter, is_in
from app_db.models import OPEN_STATES, Job, JobState
from app_db.session import Session

_NONE = select(Job.id).where(false())


async def count_all(session: Session, job_filter: JobFilter, action: Action, *, most: int) -> int:
    """Return how many jobs `control.act_on_all` would act on, counted up to `most`.

    Raises:
        FilterTooWide: the filter is empty.
    """
    if not job_filter.conditions():
        raise FilterTooWide
    if action is Action.RETRY:
        conditions, scan = control.revivable(job_filter)
        jobs = scan.applied_to(select(Job.id).where(*conditions))
    elif action is Action.DELETE:
        jobs = deletion.ended(job_filter.conditions())
    elif job_filter.owner_id is not None or job_filter.ids is not None:
        jobs = select(Job.id).where(is_in(_waiting(job_filter, action)), *job_filter.conditions())
    else:
        others = replace(job_filter, state=None).conditions()
        parts = index_scans.open_jobs(_waiting(job_filter, action), *others, most=most)
        jobs = select(union_all(*(select(part.subquery().c.id) for part in parts), _NONE).subquery().c.id)
    return (await session.scalars(select(func.count()).select_from(jobs.limit(most).subquery()))).one()


def _waiting(job_filter: JobFilter, action: Action) -> frozenset[JobState]:
    """Return the states of the filter in which jobs are discarded or cancelled."""
    states = QUEUED if action is Action.DISCARD else OPEN_STATES
    return states if job_filter.state is None else states & {job_filter.state}
