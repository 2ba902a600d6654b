"""Partial indexes of jobs, for statements about many jobs: each scan names the index's condition and its order."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, TextClause, and_, func, select, text, true
from sqlalchemy.orm import InstrumentedAttribute

from app_db.jobs.filters import JobFilter
from app_db.models import Job, JobState
from app_db.repositories import job_groups
from app_db.repositories.limits import unseen


@dataclass(frozen=True, slots=True)
class IndexScan:
    """The jobs of a partial index, in its order: else the planner might expect many matches and scan the table."""

    where: TextClause
    order: tuple[InstrumentedAttribute[Any], ...]  # Any: columns

    def applied_to[*Ts](self, jobs: Select[*Ts], *, backwards: bool = False) -> Select[*Ts]:
        """Return the query for those of `jobs` that are in the index, in its order."""
        return jobs.where(self.where).order_by(*(each.desc() if backwards else each for each in self.order))


SET_APART = IndexScan(text(f"jobs.{job_groups.SET_APART}"), (Job.state, Job.queue, Job.kind, Job.id))
DUE = IndexScan(text("jobs.claim_at IS NOT NULL AND jobs.claim_at <= now()"), (Job.queue, Job.priority, Job.claim_at))
ON_THEIR_WAY = IndexScan(text(f"jobs.{job_groups.ON_THEIR_WAY}"), (Job.queue,))
ENDED = IndexScan(text("jobs.finished_at IS NOT NULL"), (Job.state, Job.queue, Job.kind, Job.finished_at))
OF_A_BATCH = IndexScan(text("jobs.batch_id IS NOT NULL"), (Job.batch_id, Job.state, Job.id))

_BY_STATE = (
    (SET_APART, frozenset({JobState.SCHEDULED, JobState.RETRYABLE, JobState.DISCARDED, JobState.CANCELLED})),
    (DUE, frozenset({JobState.AVAILABLE})),
    (ON_THEIR_WAY, frozenset({JobState.DISPATCHED, JobState.EXECUTING})),
    (ENDED, frozenset({JobState.COMPLETED})),
)


@dataclass(frozen=True, slots=True)
class Look:
    """A look for jobs that match, along an index: `within` is its range, `matches` is tried on each job of it."""

    scan: IndexScan
    within: tuple[ColumnElement[bool], ...]
    matches: tuple[ColumnElement[bool], ...]
    backwards: bool = False

    def all(self) -> Select[UUID]:
        """Return the query for the ids of all that match."""
        return self.scan.applied_to(select(Job.id).where(*self.within, *self.matches), backwards=self.backwards)

    def first(self, most: int, *others: ColumnElement[bool]) -> Select[UUID, bool]:
        """Return the query for the first `most` jobs of the range: their ids, and whether each matches."""
        matches = and_(true(), *self.matches, *others).label("matches")
        jobs = self.scan.applied_to(select(Job.id, matches).where(*self.within), backwards=self.backwards)
        return jobs.limit(unseen(most))

    def among_the_first(self, most: int) -> Select[UUID]:
        """Return the query for the ids of those that match among the first `most` of the range."""
        if not self.matches:
            return self.all()
        rows = self.first(most).subquery()
        found = select(rows.c.id).where(rows.c.matches)
        # An array, so that the rows are found by their ids whatever the planner expects. The conditions again: until a
        # job is locked, it may be claimed, and Postgres tries only those beside the lock once more.
        is_found = Job.id == func.any(func.array(found.scalar_subquery()))
        return select(Job.id).where(is_found, *self.within, *self.matches)


def looks(states: Collection[JobState], job_filter: JobFilter) -> list[Look]:
    """Return a look for each index that has jobs in these states; the state of the filter is left to the caller.

    A look begins with the oldest jobs of its index, or, if the filter has `since`, with the newest.
    """
    indexes = _BY_STATE if job_filter.batch_id is None else ((OF_A_BATCH, frozenset(JobState)),)
    chosen = ((scan, in_index & set(states)) for scan, in_index in indexes)
    return [_look(scan, in_index, job_filter) for scan, in_index in chosen if in_index]


def _look(scan: IndexScan, states: Collection[JobState], job_filter: JobFilter) -> Look:
    columns = {column.key for column in scan.order}
    within, rest = job_filter.split(columns)
    (within if "state" in columns else rest).append(Job.state.in_(sorted(states)))
    return Look(scan, tuple(within), tuple(rest), backwards=job_filter.since is not None)
