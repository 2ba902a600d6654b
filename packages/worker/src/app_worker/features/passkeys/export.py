"""The passkeys of a user, for an export."""

from uuid import UUID

from app_db import Session
from app_db.features.passkeys.repository import PasskeyRepository
from app_db.paging import Cursor


async def export(session: Session, user_id: UUID, *, after: Cursor | None, limit: int) -> list[dict[str, str | None]]:
    """Return all passkeys of the user at once: their number is bounded."""
    return [
        {
            "id": str(passkey.id),
            "name": passkey.name,
            "created_at": passkey.created_at.isoformat(),
            "last_used_at": passkey.last_used_at.isoformat() if passkey.last_used_at else None,
        }
        for passkey in await PasskeyRepository(session).of_user(user_id)
    ]
