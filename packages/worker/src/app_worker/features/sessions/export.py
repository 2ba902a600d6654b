"""The login sessions of a user, for an export."""

from uuid import UUID

from app_db import Session
from app_db.paging import Cursor
from app_db.repositories.user_sessions import UserSessionRepository


async def export(session: Session, user_id: UUID, *, after: Cursor | None, limit: int) -> list[dict[str, str]]:
    """Return all sessions of the user at once: their number is bounded."""
    return [
        {
            "id": str(user_session.id),
            "created_at": user_session.created_at.isoformat(),
            "last_used_at": user_session.last_used_at.isoformat(),
        }
        for user_session in await UserSessionRepository(session).of_user(user_id)
    ]
