"""Counts the jobs that an action on many would act on, each state by its own index, and looks at no more than it says.

A count ends at the number that its caller asks for. Jobs that wait now are in an index without their kind: of those,
the first `MOST_LOOKED_AT` are looked at, and of the jobs of an account its newest ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, false, func, select, union_all

from app_db.jobs import control, index_scans
from app_db.jobs.control import Action, FilterTooWide
from app_db.jobs.filters import JobFilter, has_no_double
from app_db.models import FINAL_STATES, OPEN_STATES, Job, JobState
from app_db.repositories.limits import unseen
from app_db.repositories.walks import MOST_LOOKED_AT, pinned_to
from app_db.session import Session
from app_db.types import first_id_at


@dataclass(frozen=True, slots=True)
class Count:
    """How many jobs there are."""

    jobs: int
    at_least: bool
    """Whether there may be more: more were found than asked for, or not all were looked at."""


NONE = Count(0, at_least=False)


async def count_all(session: Session, job_filter: JobFilter, action: Action, *, most: int) -> Count:
    """Return how many jobs `control.act_on_all` would act on, counted up to `most`.

    Raises:
        FilterTooWide: the filter is empty.

    Example:
        found = await count_all(session, JobFilter(kind="email.welcome"), Action.CANCEL, most=1000)
        assert found.jobs <= 1000
    """
    if not job_filter.conditions():
        raise FilterTooWide
    parts = [_found(jobs, among, most) for jobs, among in _looks(job_filter, action, most)]
    if not parts:
        return NONE
    rows = union_all(*parts).subquery()
    counted = select(func.count().filter(rows.c.matches), func.coalesce(func.bool_or(rows.c.is_last), false()))
    jobs, is_cut = (await session.execute(counted)).one()
    return Count(min(jobs, most), at_least=jobs > most or is_cut)


def _found(jobs: Select[UUID, bool], among: int, most: int) -> Select[Any]:  # Any: columns
    """Return the query for the jobs that match, and for the last one if `among` were looked at."""
    looked_at = jobs.subquery()
    placed = select(looked_at.c.matches, func.row_number().over().label("place")).subquery()
    is_last = placed.c.place == among
    found = select(placed.c.matches, is_last.label("is_last")).where(placed.c.matches | is_last)
    return select(found.limit(unseen(most + 1)).subquery())


def _looks(job_filter: JobFilter, action: Action, most: int) -> Iterator[tuple[Select[UUID, bool], int]]:
    """Yield queries for jobs and whether each matches, with the most that each looks at."""
    states, others = _fitting(job_filter, action), [has_no_double()] if action is Action.RETRY else []
    if job_filter.ids is not None or job_filter.owner_id is not None:
        rest = [Job.state.in_(sorted(states)), *job_filter.conditions(), *others]
        jobs = select(Job.id, and_(*rest).label("matches"))
        if job_filter.ids is not None:
            yield jobs.where(JobFilter(ids=job_filter.ids).conditions()[0]), len(job_filter.ids) + 1
            return
        since, before = (None if at is None else first_id_at(at) for at in (job_filter.since, job_filter.before))
        order = (Job.owner_id, Job.id)
        jobs = jobs.where(*pinned_to(order, job_filter.owner_id, since=since, before=before, after=None))
        yield jobs.order_by(*(each.desc() for each in order)).limit(unseen(MOST_LOOKED_AT)), MOST_LOOKED_AT
        return
    for look in index_scans.looks(states, job_filter):
        among = MOST_LOOKED_AT if look.matches or others else most + 1
        yield look.first(among, *others), among


def _fitting(job_filter: JobFilter, action: Action) -> frozenset[JobState]:
    """Return the states of the filter that the action fits."""
    fits = {
        Action.CANCEL: OPEN_STATES,
        Action.DISCARD: control.QUEUED,
        Action.RETRY: control.FAILED if job_filter.state is None else control.RETRIABLE,
        Action.DELETE: FINAL_STATES,
    }
    return fits[action] if job_filter.state is None else fits[action] & {job_filter.state}
