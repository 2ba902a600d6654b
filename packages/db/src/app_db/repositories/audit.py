"""The audit: events are inserted and read, never changed."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from app_db.models import AuditEvent
from app_db.paging import Cursor, Slice, slice_after
from app_db.session import Session


@dataclass(frozen=True, slots=True)
class AuditRepository:
    """Inserts and reads the events of accounts."""

    session: Session

    def add(self, event: AuditEvent) -> None:
        """Add the event to the transaction. Makes no query."""
        self.session.add(event)

    async def of_user(self, user_id: UUID, *, after: Cursor | None, limit: int) -> Slice[AuditEvent]:
        """Return a page of the events of one account, newest first; also of a deleted account."""
        of_user = select(AuditEvent).where(AuditEvent.user_id == user_id)
        return await slice_after(self.session, of_user, after=after, limit=limit)

    async def recent(self, *, after: Cursor | None, limit: int) -> Slice[AuditEvent]:
        """Return a page of the events of all accounts, newest first."""
        return await slice_after(self.session, select(AuditEvent), after=after, limit=limit)
