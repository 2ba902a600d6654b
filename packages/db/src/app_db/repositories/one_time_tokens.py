"""One-time tokens: mailed, and not used yet."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select

from app_db.account_parts import AccountPart
from app_db.clock import time_or_now
from app_db.models import OneTimeToken
from app_db.repositories.account_parts import delete_parts
from app_db.repositories.expiry import BATCH, delete_batch, deletion_of_expired
from app_db.session import Session

_DELETE_EXPIRED = deletion_of_expired("one_time_tokens", column="expires_at")


@dataclass(frozen=True, slots=True)
class OneTimeTokenRepository:
    """Finds, uses up and deletes one-time tokens."""

    session: Session

    async def get(self, token_id: UUID) -> OneTimeToken | None:
        """Return the token with this id, unless it was used, replaced or pruned."""
        return (await self.session.scalars(select(OneTimeToken).where(OneTimeToken.id == token_id))).one_or_none()

    async def replace(self, token: OneTimeToken) -> None:
        """Insert this token, and delete all others of its user and purpose. Lock the user first, else two may stay."""
        same = delete(OneTimeToken).where(OneTimeToken.user_id == token.user_id, OneTimeToken.purpose == token.purpose)
        await self.session.execute(same)  # guard: test_a_new_link_is_the_only_one
        self.session.add(token)

    async def use(self, token_id: UUID, *, now: datetime | None = None) -> bool:
        """Delete the token; return True to exactly one caller, and only before the token expires."""
        statement = delete(OneTimeToken).where(OneTimeToken.id == token_id, OneTimeToken.expires_at > time_or_now(now))
        return (await self.session.scalars(statement.returning(OneTimeToken.id))).one_or_none() is not None

    async def delete_of(self, user_id: UUID) -> None:
        """Delete every token of the user, and whatever else features have mailed links for."""
        await delete_parts(self.session, user_id, AccountPart.LINK)

    async def delete_expired(self, now: datetime | None = None, *, limit: int = BATCH) -> int:
        """Delete up to `limit` expired tokens; return how many. See `UserSessionRepository`."""
        return await delete_batch(self.session, _DELETE_EXPIRED, now=now, limit=limit)
