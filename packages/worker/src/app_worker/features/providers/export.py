"""The accounts at providers that open a user's account, for an export."""

from uuid import UUID

from app_db import Session
from app_db.features.providers.repository import ProviderRepository
from app_db.paging import Cursor


async def export(session: Session, user_id: UUID, *, after: Cursor | None, limit: int) -> list[dict[str, str | None]]:
    """Return all of them at once: there is one for each provider at most."""
    return [
        {
            "issuer": link.issuer,
            "subject": link.subject,
            "email": link.email,
            "created_at": link.created_at.isoformat(),
            "last_used_at": None if link.last_used_at is None else link.last_used_at.isoformat(),
        }
        for link in await ProviderRepository(session).of_user(user_id)
    ]
