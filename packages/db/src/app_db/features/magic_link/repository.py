"""Links to sign in with."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select

from app_db.clock import time_or_now
from app_db.features.magic_link.models import SignInLink
from app_db.session import Session


@dataclass(frozen=True, slots=True)
class SignInLinkRepository:
    """Finds and uses up links to sign in with."""

    session: Session

    async def get(self, link_id: UUID) -> SignInLink | None:
        """Return the link with this id, unless it was used, or its account has changed."""
        return (await self.session.scalars(select(SignInLink).where(SignInLink.id == link_id))).one_or_none()

    async def use(self, link_id: UUID, *, now: datetime | None = None) -> bool:
        """Delete the link; return True to exactly one caller, and only before it expires. Lock the user first."""
        statement = delete(SignInLink).where(SignInLink.id == link_id, SignInLink.expires_at > time_or_now(now))
        return (await self.session.scalars(statement.returning(SignInLink.id))).one_or_none() is not None
