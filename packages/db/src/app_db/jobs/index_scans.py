"""Partial indexes of jobs, for statements about many jobs: each scan names the index's condition and its order."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, TextClause, text
from sqlalchemy.orm import InstrumentedAttribute

from app_db.models import Job
from app_db.repositories import job_groups


@dataclass(frozen=True, slots=True)
class IndexScan:
    """The jobs of a partial index, in its order: else the planner might expect many matches and scan the table."""

    where: TextClause
    order: tuple[InstrumentedAttribute[Any], ...]  # Any: columns

    def applied_to[*Ts](self, jobs: Select[*Ts]) -> Select[*Ts]:
        """Return the query for those of `jobs` that are in the index, in its order."""
        return jobs.where(self.where).order_by(*self.order)


SET_APART = IndexScan(text(f"jobs.{job_groups.SET_APART}"), (Job.state, Job.queue, Job.kind, Job.id))
ENDED = IndexScan(text("jobs.finished_at IS NOT NULL"), (Job.state, Job.queue, Job.kind, Job.finished_at))
