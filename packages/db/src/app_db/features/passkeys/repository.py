"""Passkeys and the challenges that were used."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app_db.errors import AppError
from app_db.features.passkeys.models import Passkey, UsedChallenge
from app_db.repositories.expiry import BATCH, delete_batch, deletion_of_expired
from app_db.session import Session
from app_db.violations import violation_as

KEPT = timedelta(hours=1)
"""For so long a used challenge is remembered, which is longer than any can be answered."""

_DELETE_EXPIRED = deletion_of_expired("passkey_challenges", column="expires_at")


@dataclass(frozen=True, slots=True)
class PasskeyRepository:
    """Finds and changes passkeys."""

    session: Session

    async def of_user(self, user_id: UUID) -> Sequence[Passkey]:
        """Return all passkeys of a user, oldest first."""
        return (
            await self.session.scalars(select(Passkey).where(Passkey.user_id == user_id).order_by(Passkey.id))
        ).all()

    async def of_credential(self, credential_id: bytes) -> Passkey | None:
        """Return the passkey that an authenticator calls so."""
        return (await self.session.scalars(select(Passkey).where(Passkey.credential_id == credential_id))).one_or_none()

    async def add(self, passkey: Passkey, *, taken: type[AppError]) -> None:
        """Insert the passkey.

        Raises:
            taken: when an account has a passkey with this credential id already.
        """
        self.session.add(passkey)
        with violation_as(taken, of="uq_passkeys_credential_id"):
            await self.session.flush()  # here, where the clash can still be named

    async def note_use(self, passkey_id: UUID, *, sign_count: int, backed_up: bool) -> bool:
        """Note a use, and return whether the counter went on; it may stay 0, and never goes back or stands still.

        One statement, so of two uses with one counter the second is seen (WebAuthn Level 3, 7.2).
        """
        went_on = Passkey.sign_count < sign_count if sign_count else Passkey.sign_count == 0
        statement = (
            update(Passkey)
            .where(Passkey.id == passkey_id, went_on)  # guard: test_a_counter_that_goes_back_is_refused_and_audited
            .values(sign_count=sign_count, backed_up=backed_up, last_used_at=func.now())
        )
        return (await self.session.scalars(statement.returning(Passkey.id))).one_or_none() is not None

    async def rename(self, passkey_id: UUID, *, user_id: UUID, name: str) -> Passkey | None:
        """Give a passkey of this user another name and return it; None if the user has none with this id."""
        statement = update(Passkey).where(Passkey.id == passkey_id, Passkey.user_id == user_id).values(name=name)
        return (await self.session.scalars(statement.returning(Passkey))).one_or_none()

    async def delete(self, passkey_id: UUID) -> None:
        """Delete the passkey."""
        await self.session.execute(delete(Passkey).where(Passkey.id == passkey_id))


@dataclass(frozen=True, slots=True)
class UsedChallengeRepository:
    """Remembers which challenges were used."""

    session: Session

    async def use(self, challenge_id: UUID) -> bool:
        """Use up a challenge; return True to exactly one caller. Waits for a concurrent one."""
        values = {"id": challenge_id, "expires_at": func.now() + KEPT}
        statement = insert(UsedChallenge).values(values).on_conflict_do_nothing().returning(UsedChallenge.id)
        return (await self.session.scalars(statement)).one_or_none() is not None

    async def delete_expired(self, now: datetime | None = None, *, limit: int = BATCH) -> int:
        """Delete up to `limit` challenges that nobody could answer any more; return how many."""
        return await delete_batch(self.session, _DELETE_EXPIRED, now=now, limit=limit)
