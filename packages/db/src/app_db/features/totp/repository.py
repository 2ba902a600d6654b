"""Secrets of generators and digests of recovery codes. Each method that changes them expects a locked user."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, func, or_, select, update

from app_db.features.totp.models import TotpRecoveryCode, TotpSecret
from app_db.session import Session


@dataclass(frozen=True, slots=True)
class TotpRepository:
    """Finds and changes what confirms the sign-ins of an account."""

    session: Session

    async def secret_of(self, user_id: UUID) -> TotpSecret | None:
        """Return the secret of the user as it is stored now, confirmed or not."""
        statement = select(TotpSecret).where(TotpSecret.user_id == user_id)
        return (await self.session.scalars(statement.execution_options(populate_existing=True))).one_or_none()

    async def offer(self, secret: TotpSecret) -> bool:
        """Store a secret in place of one that was not confirmed; return False if the user has a confirmed one."""
        mine = TotpSecret.user_id == secret.user_id
        await self.session.execute(delete(TotpSecret).where(mine, TotpSecret.confirmed_at.is_(None)))
        if (await self.session.scalars(select(TotpSecret.id).where(mine))).one_or_none() is not None:
            return False
        self.session.add(secret)
        return True

    async def confirm(self, secret_id: UUID, *, step: int) -> None:
        """Let the secret count from now on; the code of this time step is used up by it."""
        statement = update(TotpSecret).where(TotpSecret.id == secret_id)
        await self.session.execute(statement.values(confirmed_at=func.now(), last_step=step))

    async def use_step(self, secret_id: UUID, step: int, *, newest: int) -> bool:
        """Use up the codes up to this time step; return False if a code of it, or of a later one, was used before.

        `newest` is the latest step that a code may have now. One beyond it was used before the clock was set back, and
        would lock its owner out until then.
        """
        statement = update(TotpSecret).where(
            TotpSecret.id == secret_id,
            or_(TotpSecret.last_step < step, TotpSecret.last_step > newest),  # guard: test_a_code_works_once
        )
        changed = statement.values(last_step=step).returning(TotpSecret.id)
        return (await self.session.scalars(changed)).one_or_none() is not None

    async def reseal(self, secret_id: UUID, *, sealed: bytes, key_id: str) -> None:
        """Store the same secret under another key."""
        statement = update(TotpSecret).where(TotpSecret.id == secret_id)
        await self.session.execute(statement.values(sealed=sealed, key_id=key_id))

    async def remove(self, user_id: UUID) -> None:
        """Delete the secret and the recovery codes."""
        await self.replace_codes(user_id, [])
        await self.session.execute(delete(TotpSecret).where(TotpSecret.user_id == user_id))

    async def replace_codes(self, user_id: UUID, digests: Iterable[bytes]) -> None:
        """Store the digests of new recovery codes in place of all others."""
        await self.session.execute(delete(TotpRecoveryCode).where(TotpRecoveryCode.user_id == user_id))
        self.session.add_all([TotpRecoveryCode(user_id=user_id, digest=digest) for digest in digests])

    async def use_code(self, user_id: UUID, digests: Collection[bytes]) -> bool:
        """Delete the recovery code with one of these digests; return True to exactly one caller."""
        statement = delete(TotpRecoveryCode).where(
            TotpRecoveryCode.user_id == user_id, TotpRecoveryCode.digest.in_(digests)
        )
        used = await self.session.scalars(statement.returning(TotpRecoveryCode.id))
        return used.one_or_none() is not None  # guard: test_a_recovery_code_works_once

    async def codes_left(self, user_id: UUID) -> int:
        """Count the recovery codes that were not used."""
        statement = select(func.count()).where(TotpRecoveryCode.user_id == user_id)
        return (await self.session.scalars(statement)).one()
