"""Actions on any number of jobs: a walk over their ids, a batch in each transaction, which can go on anywhere."""

from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select, true

from app_db.jobs.control import Action, act_on_all
from app_db.jobs.filters import JobFilter
from app_db.models import Job
from app_db.repositories.limits import unseen
from app_db.session import Session

QUEUE = "bulk"
"""The queue of the jobs that act on many others. Every worker serves it beside its own queues, so that an action on a
queue that is paused, or full, does not wait behind it."""
LOOKED_AT = 2000
"""How many jobs a batch looks at: its cost is the same whether all of them match or none."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A part of a walk."""

    looked_at: int
    acted_on: int
    last_id: UUID | None
    """Where the next batch begins; None after the last one."""


async def count_range(session: Session, job_filter: JobFilter, *, until: UUID) -> int:
    """Return how many jobs a walk looks at: those with ids in the range of the filter, or of the owner."""
    statement = select(func.count()).select_from(Job).where(*_range(job_filter, None, until))
    return (await session.scalars(statement)).one()


async def act_on_batch(
    session: Session, job_filter: JobFilter, action: Action, *, after: UUID | None, until: UUID, most: int
) -> Batch:
    """Look at the next `most` jobs, the oldest first, and apply the action to those that match and that it fits.

    Each job is looked at once in a walk, so that a job that is retried and fails again is not retried for ever. One
    that is locked at that moment is left out.

    Args:
        session: the batch joins its transaction.
        job_filter: which jobs are meant; see `act_on_all`.
        action: what to do.
        after: the `last_id` of the batch before.
        until: jobs with this id or a greater one are left alone: they were enqueued after the action was asked for.
        most: the size of the batch.

    Raises:
        DuplicateJob: as `act_on_all` does; the transaction is lost, try again.
    """
    wanted = ((Job.state, job_filter.state), (Job.kind, job_filter.kind), (Job.queue, job_filter.queue))
    matches = and_(true(), *(column == value for column, value in wanted if value is not None))
    # A walk over the ids themselves, whatever else the filter says: so the planner cannot choose to read the table.
    walk = select(Job.id, matches.label("matches")).where(*_range(job_filter, after, until))
    rows = (await session.execute(walk.order_by(Job.id).limit(unseen(most)))).all()
    ids = tuple(row.id for row in rows if row.matches)
    acted = await act_on_all(session, replace(job_filter, ids=ids), action, limit=len(ids)) if ids else 0
    return Batch(len(rows), acted, rows[-1].id if len(rows) == most else None)


def _range(job_filter: JobFilter, after: UUID | None, until: UUID) -> list[ColumnElement[bool]]:
    ranges = JobFilter(owner_id=job_filter.owner_id, since=job_filter.since, before=job_filter.before)
    return [*ranges.conditions(), Job.id < until, *([] if after is None else [Job.id > after])]
