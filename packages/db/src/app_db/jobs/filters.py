"""Filters of jobs, for lists and for actions on many at once."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, and_, bindparam, exists, func, or_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import aliased

from app_db.models import FINAL_STATES, Job, JobState
from app_db.types import first_id_at


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Chooses the jobs that match all values that are not None."""

    state: JobState | None = None
    kind: str | None = None
    queue: str | None = None
    owner_id: UUID | None = None
    since: datetime | None = None
    """Enqueued at this time or later, as their ids say."""
    before: datetime | None = None
    """Enqueued before this time."""
    ids: tuple[UUID, ...] | None = None
    """Any of these."""
    batch_id: UUID | None = None
    """The jobs of a batch or chain."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions of the WHERE clause."""
        state = [] if self.state is None else [is_in({self.state})]
        return state + [condition for _, condition in self._by_column()]

    def split(self, columns: Collection[str]) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
        """Return the conditions on these columns, and those on others, without that of the state."""
        found = self._by_column()
        return [each for name, each in found if name in columns], [each for name, each in found if name not in columns]

    def _by_column(self) -> list[tuple[str, ColumnElement[bool]]]:
        columns = (
            (Job.kind, self.kind), (Job.queue, self.queue), (Job.owner_id, self.owner_id), (Job.batch_id, self.batch_id)
        )  # fmt: skip
        found = [(column.key, column == value) for column, value in columns if value is not None]
        if self.since is not None:
            found.append(("id", Job.id >= first_id_at(self.since)))
        if self.before is not None:
            found.append(("id", Job.id < first_id_at(self.before)))
        if self.ids is not None:
            found.append(("id", Job.id == bindparam(None, self.ids, type_=ARRAY(Uuid())).any_()))
        return found


def is_in(states: Collection[JobState]) -> ColumnElement[bool]:
    """Return the condition that a job is in one of `states`, written so that Postgres can use its partial indexes."""
    ended, others = FINAL_STATES & set(states), set(states) - FINAL_STATES
    return or_(
        and_(Job.finished_at.is_not(None), Job.state.in_(sorted(ended))),
        and_(Job.claim_at.is_not(None), Job.state.in_(sorted(others))),
    )


def has_no_double() -> ColumnElement[bool]:
    """Return the condition that no other job holds the unique key of this one."""
    other = aliased(Job)
    holds = other.state == func.any(other.unique_states)
    return ~exists().where(other.unique_key == Job.unique_key, holds, other.id != Job.id)
