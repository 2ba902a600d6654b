"""Partial indexes of jobs, for statements about many jobs: each scan names the index's condition and its order."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, TextClause, select, text
from sqlalchemy.orm import InstrumentedAttribute

from app_db.models import Job, JobState
from app_db.repositories import job_groups


@dataclass(frozen=True, slots=True)
class IndexScan:
    """The jobs of a partial index, in its order: else the planner might expect many matches and scan the table."""

    where: TextClause
    order: tuple[InstrumentedAttribute[Any], ...]  # Any: columns

    def applied_to[*Ts](self, jobs: Select[*Ts]) -> Select[*Ts]:
        """Return the query for those of `jobs` that are in the index, in its order."""
        return jobs.where(self.where).order_by(*self.order)

    def of(self, states: frozenset[JobState], *conditions: ColumnElement[bool]) -> Select[UUID]:
        """Return the query for the ids of jobs in these states that meet the conditions."""
        return self.applied_to(select(Job.id).where(Job.state.in_(sorted(states)), *conditions))


SET_APART = IndexScan(text(f"jobs.{job_groups.SET_APART}"), (Job.state, Job.queue, Job.kind, Job.id))
DUE = IndexScan(text("jobs.claim_at IS NOT NULL AND jobs.claim_at <= now()"), (Job.queue, Job.priority, Job.claim_at))
ON_THEIR_WAY = IndexScan(text(f"jobs.{job_groups.ON_THEIR_WAY}"), (Job.queue,))
ENDED = IndexScan(text("jobs.finished_at IS NOT NULL"), (Job.state, Job.queue, Job.kind, Job.finished_at))

_OPEN = (
    (SET_APART, frozenset({JobState.SCHEDULED, JobState.RETRYABLE})),
    (DUE, frozenset({JobState.AVAILABLE})),
    (ON_THEIR_WAY, frozenset({JobState.DISPATCHED, JobState.EXECUTING})),
)


def open_jobs(states: Collection[JobState], *conditions: ColumnElement[bool], most: int) -> list[Select[UUID]]:
    """Return queries for the ids of open jobs in these states, up to `most` from each index that has some of them."""
    scans = [(scan, in_index & set(states)) for scan, in_index in _OPEN]
    return [scan.of(chosen, *conditions).limit(most) for scan, chosen in scans if chosen]
