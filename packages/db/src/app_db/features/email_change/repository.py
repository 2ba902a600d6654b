"""Changes of address: asked for, confirmed once, undone from any former address."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select, update

from app_db.clock import time_or_now
from app_db.errors import AppError
from app_db.features.email_change.models import EmailChange, FormerEmail
from app_db.models import Role, User
from app_db.session import Session
from app_db.violations import violation_as


@dataclass(frozen=True, slots=True)
class EmailChangeRepository:
    """Keeps and finds changes of address. Who writes has locked the user."""

    session: Session

    async def replace(self, change: EmailChange) -> None:
        """Insert this change, and delete the one that its user has asked for before."""
        await self.session.execute(
            delete(EmailChange).where(EmailChange.user_id == change.user_id)
        )  # guard: test_a_new_change_ends_the_one_before
        self.session.add(change)

    async def get(self, change_id: UUID) -> EmailChange | None:
        """Return the change with this id, unless it was used or replaced, or its session has ended."""
        return (await self.session.scalars(select(EmailChange).where(EmailChange.id == change_id))).one_or_none()

    async def use(self, change_id: UUID, *, now: datetime | None = None) -> bool:
        """Delete the change; return True to exactly one caller, and only before it expires."""
        statement = delete(EmailChange).where(EmailChange.id == change_id, EmailChange.expires_at > time_or_now(now))
        return (await self.session.scalars(statement.returning(EmailChange.id))).one_or_none() is not None

    async def get_former(self, former_id: UUID) -> FormerEmail | None:
        """Return the former address with this id, unless it was brought back."""
        return (await self.session.scalars(select(FormerEmail).where(FormerEmail.id == former_id))).one_or_none()

    async def return_to(self, user_id: UUID, email: str, *, now: datetime | None = None) -> bool:
        """Delete this former address of the user and all later ones; return whether it could be brought back."""
        since = (
            select(func.min(FormerEmail.created_at))
            .where(
                FormerEmail.user_id == user_id,
                FormerEmail.email_canonical == email,
                FormerEmail.can_return,
                FormerEmail.expires_at > time_or_now(now),
            )
            .scalar_subquery()
        )
        later = delete(FormerEmail).where(FormerEmail.user_id == user_id, FormerEmail.created_at >= since)
        return bool((await self.session.scalars(later.returning(FormerEmail.id))).all())

    async def free(self, email: str) -> UUID | None:
        """Delete the account that has registered this canonical address and never proven it; return its id.

        Those of operators and disabled ones stay: somebody has decided about them.
        """
        unproven = delete(User).where(
            User.email_canonical == email,
            User.email_verified_at.is_(None),  # guard: test_an_address_that_its_owner_has_proven_is_not_taken_away
            User.disabled_at.is_(None),
            User.role == Role.USER,
        )
        return (await self.session.scalars(unproven.returning(User.id))).one_or_none()

    async def set_email(
        self, user_id: UUID, *, email: str, canonical: str, taken: type[AppError], now: datetime | None = None
    ) -> None:
        """Give the account this address, which its owner has proven.

        Raises:
            taken: another account has it, also one that a concurrent request made.
        """
        values = {
            "email": email,
            "email_canonical": canonical,
            "email_verified_at": time_or_now(now),
            "undeliverable_at": None,
            "undeliverable_because": None,
        }
        with violation_as(taken, of="uq_users_email_canonical"):
            await self.session.execute(update(User).where(User.id == user_id).values(**values))
