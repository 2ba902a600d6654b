"""Exports of accounts: written by a job piece by piece, and read by their owner in the same way."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, exists, func, insert, select

from app_db.features.export.models import ExportPart
from app_db.models import Job, JobState
from app_db.repositories.expiry import BATCH, delete_batch, deletion_of_expired
from app_db.session import Session
from app_db.types import new_id

KEPT = timedelta(days=1)
"""How long an export can be fetched: as long as retention keeps its job."""

_DELETE_EXPIRED = deletion_of_expired("export_parts", column="expires_at")


@dataclass(frozen=True, slots=True)
class ExportRepository:
    """Keeps and finds the pieces of exports."""

    session: Session

    async def begin(self, job_id: UUID) -> None:
        """Delete the pieces that an earlier attempt of this job has written."""
        await self.session.execute(delete(ExportPart).where(ExportPart.job_id == job_id))

    async def add(self, job_id: UUID, number: int, *, user_id: UUID, content: bytes) -> None:
        """Insert a piece."""
        expires_at = func.now() + KEPT
        values = {"id": new_id(), "job_id": job_id, "number": number, "user_id": user_id, "content": content}
        await self.session.execute(insert(ExportPart).values(**values, expires_at=expires_at))

    async def keep_only(self, job_id: UUID, *, user_id: UUID, kind: str) -> None:
        """Delete the other exports of this user by jobs of this kind, so that they do not pile up."""
        of_another_kind = exists().where(Job.id == ExportPart.job_id, Job.kind != kind)
        others = delete(ExportPart).where(
            ExportPart.user_id == user_id,
            ExportPart.job_id != job_id,
            ~of_another_kind,  # guard: test_exports_of_one_kind_leave_those_of_another
        )
        await self.session.execute(others)  # guard: test_only_the_newest_export_of_a_user_is_kept

    async def sizes_of(self, job_id: UUID, *, user_id: UUID, kind: str) -> list[int]:
        """Return the sizes of the pieces of a finished export of this user and kind; of any other an empty list."""
        is_complete = exists().where(
            Job.id == job_id,
            Job.owner_id == user_id,
            Job.kind == kind,  # guard: test_who_is_no_operator_any_more_fetches_no_audit
            Job.state == JobState.COMPLETED,
            Job.finished_at.is_not(None),
        )
        statement = select(func.length(ExportPart.content)).where(
            ExportPart.job_id == job_id, ExportPart.user_id == user_id, ExportPart.expires_at > func.now(), is_complete
        )
        return list(await self.session.scalars(statement.order_by(ExportPart.number)))

    async def part_of(self, job_id: UUID, number: int, *, user_id: UUID) -> bytes | None:
        """Return one piece of an export of this user, unless it has been replaced meanwhile."""
        statement = select(ExportPart.content).where(
            ExportPart.job_id == job_id, ExportPart.number == number, ExportPart.user_id == user_id
        )
        return (await self.session.scalars(statement)).one_or_none()

    async def delete_expired(self, now: datetime | None = None, *, limit: int = BATCH) -> int:
        """Delete up to `limit` pieces that have expired; return how many. See `UserSessionRepository`."""
        return await delete_batch(self.session, _DELETE_EXPIRED, now=now, limit=limit)
