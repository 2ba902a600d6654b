"""Jobs by the index that has them, for what is done to many at once."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, TextClause, text
from sqlalchemy.orm import InstrumentedAttribute

from app_db.models import Job
from app_db.repositories import job_groups


@dataclass(frozen=True, slots=True)
class Part:
    """Jobs of an index, in its order: else the planner might read the table, taking what matches for dense."""

    where: TextClause
    order: tuple[InstrumentedAttribute[Any], ...]  # Any: columns

    def of[*Ts](self, jobs: Select[*Ts]) -> Select[*Ts]:
        """Return those of `jobs` that are in it, in its order."""
        return jobs.where(self.where).order_by(*self.order)


SET_APART = Part(text(f"jobs.{job_groups.SET_APART}"), (Job.state, Job.queue, Job.kind, Job.id))
ENDED = Part(text("jobs.finished_at IS NOT NULL"), (Job.state, Job.queue, Job.kind, Job.finished_at))
