"""The jobs that a user has started, for an export."""

from uuid import UUID

from app_db import Session
from app_db.paging import Cursor, Slice
from app_db.repositories.jobs import JobRepository


async def export(session: Session, user_id: UUID, *, after: Cursor | None, limit: int) -> Slice[dict[str, str]]:
    """Return a page of them, newest first."""
    page = await JobRepository(session).owned_by(user_id, after=after, limit=limit)
    rows = [{"id": str(job.id), "kind": job.kind, "created_at": job.created_at.isoformat()} for job in page.items]
    return Slice(rows, page.next)
