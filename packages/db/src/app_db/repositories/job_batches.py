"""Batches and chains of jobs, for owners and operators."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, func, select, union_all
from sqlalchemy.sql.elements import SQLColumnExpression

from app_db.models import Job, JobBatch, JobBatchChange, JobState
from app_db.paging import Cursor, Slice, slice_after
from app_db.session import Session


class BatchState(StrEnum):
    """How far a batch or chain is."""

    RUNNING = "running"
    """It has not ended, or a retried job runs again."""
    COMPLETED = "completed"
    """All its jobs have completed."""
    FAILED = "failed"
    """All its jobs have ended, and not all have completed; a chain has ended with the job that has not."""
    CANCELLED = "cancelled"
    """It was cancelled as a whole. Its jobs may still be about to end."""


@dataclass(frozen=True, slots=True)
class BatchOverview:
    """A batch or chain, with what has ended to this moment."""

    id: UUID
    owner_id: UUID | None
    is_chain: bool
    created_at: datetime
    total: int
    """The number of its jobs; of a chain, those too that have yet to be enqueued."""
    completed: int
    discarded: int
    cancelled: int
    then_id: UUID | None
    """The job that was enqueued when all had completed; None until then, or if there is none."""
    on_failure_id: UUID | None
    """The job that was enqueued when not all had completed; None likewise."""
    failed_id: UUID | None
    """The last of its jobs that was discarded or cancelled."""
    cancelled_at: datetime | None
    ended_at: datetime | None

    @property
    def state(self) -> BatchState:
        """How far it is."""
        if self.completed == self.total:
            return BatchState.COMPLETED
        if self.cancelled_at is not None:
            return BatchState.CANCELLED
        return BatchState.RUNNING if self.ended_at is None else BatchState.FAILED


def _with_changes(column: SQLColumnExpression[int], changed: SQLColumnExpression[int]) -> ColumnElement[int]:
    """Return a count with what no worker has added up yet."""
    return (
        column
        + select(func.coalesce(func.sum(changed), 0))
        .where(JobBatchChange.batch_id == JobBatch.id)
        .correlate(JobBatch)
        .scalar_subquery()
    )  # guard: test_what_nobody_has_added_up_yet_is_shown


def _if_enqueued(job_id: SQLColumnExpression[UUID | None], job: SQLColumnExpression[Any]) -> ColumnElement[UUID | None]:
    """Return the id of a last job whose columns are no longer kept, because it is a job now."""
    return case((job.is_(None), job_id))


_COLUMNS = {name: getattr(JobBatch, name) for name in (field.name for field in fields(BatchOverview))} | {
    "total": _with_changes(JobBatch.total, JobBatchChange.added),
    "completed": _with_changes(JobBatch.completed, JobBatchChange.completed),
    "discarded": _with_changes(JobBatch.discarded, JobBatchChange.discarded),
    "cancelled": _with_changes(JobBatch.cancelled, JobBatchChange.cancelled),
    "then_id": _if_enqueued(JobBatch.then_id, JobBatch.then_job),
    "on_failure_id": _if_enqueued(JobBatch.on_failure_id, JobBatch.on_failure_job),
}


@dataclass(frozen=True, slots=True)
class JobBatchRepository:
    """Finds batches, and the jobs of one."""

    session: Session

    async def get(self, batch_id: UUID, *, owner_id: UUID | None) -> BatchOverview | None:
        """Return the batch, or None if there is none, or this user does not own it; without an owner, of anybody."""
        found = await self._find([JobBatch.id == batch_id], owner_id, limit=1)
        return found[0] if found else None

    async def page(self, *, owner_id: UUID | None, after: Cursor | None, limit: int) -> Slice[BatchOverview]:
        """Return a page of the batches of a user, or of anybody, newest first."""
        later = [] if after is None else [JobBatch.id < after.last_id]
        found = await self._find(later, owner_id, limit=limit + 1)
        return Slice(found[:limit], Cursor(found[limit - 1].id) if len(found) > limit else None)

    async def jobs(
        self, batch_id: UUID, *, state: JobState | None = None, after: Cursor | None, limit: int
    ) -> Slice[Job]:
        """Return a page of its jobs, newest first; those of a chain that were not enqueued yet are in none."""
        statement = select(Job).where(Job.batch_id == batch_id)
        if state is not None:
            statement = statement.where(Job.state == state)
        return await slice_after(self.session, statement, after=after, limit=limit)

    async def newest_jobs(self, batch_id: UUID, states: Collection[JobState], *, limit: int) -> Sequence[Job]:
        """Return up to `limit` of its jobs in these states, those of the first state first, the newest first."""
        each = [
            select(Job.id).where(Job.batch_id == batch_id, Job.state == state).order_by(Job.id.desc()).limit(limit)
            for state in states
        ]
        ids = union_all(*(select(part.subquery().c.id) for part in each)).subquery()
        order = case({state: place for place, state in enumerate(states)}, value=Job.state)
        statement = select(Job).where(Job.id.in_(select(ids.c.id))).order_by(order, Job.id.desc()).limit(limit)
        return (await self.session.scalars(statement)).all()

    async def _find(
        self, conditions: list[ColumnElement[bool]], owner_id: UUID | None, *, limit: int
    ) -> list[BatchOverview]:
        if owner_id is not None:
            conditions = [*conditions, JobBatch.owner_id == owner_id]
        columns = [column.label(name) for name, column in _COLUMNS.items()]
        statement = select(*columns).where(*conditions).order_by(JobBatch.id.desc()).limit(limit)
        return [BatchOverview(**row) for row in (await self.session.execute(statement)).mappings()]
