"""Passkeys as ways into an account."""

from uuid import UUID

from app_db import Session
from app_db.features.passkeys.repository import PasskeyRepository


async def count_ways_in(session: Session, user_id: UUID) -> int:
    """Return how many passkeys the account has."""
    return len(await PasskeyRepository(session).of_user(user_id))
