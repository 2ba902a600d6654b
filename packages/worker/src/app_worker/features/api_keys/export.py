"""The keys of a user, for an export."""

from uuid import UUID

from app_db import Session
from app_db.features.api_keys.repository import ApiKeyRepository
from app_db.paging import Cursor


async def export(session: Session, user_id: UUID, *, after: Cursor | None, limit: int) -> list[dict[str, object]]:
    """Return all keys of the user at once: their number is bounded. No secret of them is stored."""
    return [
        {
            "id": str(key.id),
            "name": key.name,
            "scopes": key.scopes,
            "created_at": key.created_at.isoformat(),
            "expires_at": key.expires_at.isoformat(),
            "last_used_at": key.last_used_at and key.last_used_at.isoformat(),
        }
        for key in await ApiKeyRepository(session).of_user(user_id)
    ]
