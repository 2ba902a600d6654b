"""Jobs as their owners see them."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from app_db.engine import Session
from app_db.models import Job
from app_db.paging import Cursor, Slice, slice_after


@dataclass(frozen=True, slots=True)
class JobRepository:
    """Finds jobs."""

    session: Session

    async def owned_by(self, owner_id: UUID, *, after: Cursor | None, limit: int) -> Slice[Job]:
        """Return the jobs that the user started, newest first."""
        return await slice_after(self.session, select(Job).where(Job.owner_id == owner_id), after=after, limit=limit)

    async def get_owned(self, job_id: UUID, *, owner_id: UUID) -> Job | None:
        """Return the job if the user started it; another's job is not found."""
        return (await self.session.scalars(select(Job).where(Job.id == job_id, Job.owner_id == owner_id))).one_or_none()
