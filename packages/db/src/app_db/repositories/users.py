"""Accounts."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import bindparam, delete, select

from app_db.engine import Session
from app_db.errors import AppError, violation_as
from app_db.models import User

_BY_EMAIL = select(User).where(User.email_canonical == bindparam("email"))


@dataclass(frozen=True, slots=True)
class UserRepository:
    """Finds and keeps users."""

    session: Session

    async def get(self, user_id: UUID) -> User | None:
        """Return the user with this id."""
        return await self.session.get(User, user_id)

    async def by_canonical_email(self, email: str) -> User | None:
        """Return the user whose address has this canonical form (`app_auth.accounts.canonical_email`)."""
        return (await self.session.scalars(_BY_EMAIL, {"email": email})).one_or_none()

    async def add(self, user: User, *, taken: type[AppError]) -> None:
        """Insert the user.

        Raises:
            taken: when the address has an account already, also one that a concurrent request made.
        """
        self.session.add(user)
        with violation_as(taken, of="uq_users_email_canonical"):
            await self.session.flush()  # here, where the clash can still be named

    async def delete(self, user_id: UUID) -> None:
        """Delete the user and, by cascade, all their login sessions."""
        await self.session.execute(delete(User).where(User.id == user_id))
