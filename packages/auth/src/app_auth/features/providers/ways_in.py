"""Accounts at providers as ways into an account."""

from uuid import UUID

from app_db import Session
from app_db.features.providers.repository import ProviderRepository


async def count_ways_in(session: Session, user_id: UUID) -> int:
    """Return how many accounts at providers open the account."""
    return await ProviderRepository(session).count(user_id)
