"""Accounts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, and_, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app_db.clock import time_or_now
from app_db.errors import AppError
from app_db.models import Role, User, UserSession
from app_db.paging import Cursor, Slice, slice_after
from app_db.repositories import account_lists
from app_db.repositories.account_lists import AccountFilter
from app_db.session import Session
from app_db.violations import violation_as

_CREDENTIALS_OF = select(
    User.id, User.password_hash, User.email_verified_at.is_not(None), User.disabled_at.is_not(None)
).where(User.email_canonical == bindparam("email"))

_NOTED = (
    func.now(), User.email_canonical, User.password_hash, User.email_verified_at.is_not(None), User.second_factors
)  # fmt: skip

_ID_OF = select(User.id).where(User.email_canonical == bindparam("email"))


@dataclass(frozen=True, slots=True)
class Credentials:
    """The columns of an account that a sign-in needs."""

    user_id: UUID
    password_hash: str | None
    """None for an account without a password."""
    verified: bool = False
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class SignInNote:
    """The columns of a locked account that decide whether a sign-in goes on."""

    now: datetime
    """By Postgres's clock."""
    email: str
    """The canonical address."""
    password_hash: str | None
    verified: bool
    second_factors: Sequence[str]


@dataclass(frozen=True, slots=True)
class UserRepository:
    """Finds and changes users."""

    session: Session

    async def get(self, user_id: UUID) -> User | None:
        """Return the user with this id."""
        return await self.session.get(User, user_id)

    async def credentials_of(self, email: str) -> Credentials | None:
        """Return the credentials of the account with this canonical address (`app_auth.accounts`)."""
        row = (await self.session.execute(_CREDENTIALS_OF, {"email": email})).one_or_none()
        return None if row is None else Credentials(*row)

    async def read_credentials(self, email: str) -> Credentials | None:
        """As `credentials_of`, in a transaction of its own, and without a connection afterwards; before any write."""
        row = await self.session.read_alone(_CREDENTIALS_OF, {"email": email})
        return None if row is None else Credentials(*row)

    async def password_hash(self, user_id: UUID) -> str | None:
        """Return the stored hash of the user's password; None when the user is gone."""
        return (await self.session.scalars(select(User.password_hash).where(User.id == user_id))).one_or_none()

    async def lock(self, user_id: UUID) -> None:
        """Lock the user until the transaction ends: no other transaction starts or ends sessions of this user."""
        await self.session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))

    async def note_sign_in(self, user_id: UUID, *, password_hash: str | None = None) -> SignInNote | None:
        """Note a sign-in, and return what decides whether it goes on; with a hash, only if that is still stored.

        The user is locked then (see `lock`): this conflicts with itself, with a change of the password and with the
        deletion of the user. None means that the account is gone, disabled, or has another hash by now.
        """
        statement = update(User).where(
            User.id == user_id,
            User.disabled_at.is_(None),  # guard: test_an_account_that_is_disabled_while_it_signs_in_is_refused
        )
        if password_hash is not None:
            statement = statement.where(User.password_hash == password_hash)
        changes = {"signed_in_at": func.now(), "updated_at": User.updated_at}  # a sign-in is no change of the account
        # The row as the lock found it, and not as the statement began: another request may just have changed it.
        noted = statement.values(changes).returning(*_NOTED)  # guard: test_sign_ins_at_once_stay_within_the_cap
        row = (await self.session.execute(noted)).one_or_none()
        return None if row is None else SignInNote(*row)

    async def lock_unchanged(self, user_id: UUID, *, email: str, password_hash: str | None) -> bool:
        """Lock the user (see `lock`) if the account is enabled, and has this canonical address and this hash still."""
        unchanged = User.email_canonical == email, User.password_hash == password_hash, User.disabled_at.is_(None)
        statement = select(User.id).where(User.id == user_id, *unchanged).with_for_update(key_share=True)
        return (await self.session.scalars(statement)).one_or_none() is not None

    async def add_second_factor(self, user_id: UUID, name: str) -> None:
        """Let each sign-in to the account ask for this factor, from the next one on. The caller has locked the user."""
        statement = update(User).where(User.id == user_id, ~User.second_factors.contains([name]))
        await self.session.execute(statement.values(second_factors=func.array_append(User.second_factors, name)))

    async def remove_second_factor(self, user_id: UUID, name: str) -> bool:
        """Let no sign-in ask for this factor any more; return whether one did."""
        statement = update(User).where(User.id == user_id, User.second_factors.contains([name]))
        left = statement.values(second_factors=func.array_remove(User.second_factors, name)).returning(User.id)
        return (await self.session.scalars(left)).one_or_none() is not None

    async def replace_password_hash(self, stored: Credentials, new_hash: str) -> bool:
        """Replace the stored hash; return False and change nothing if another hash is stored by now."""
        statement = update(User).where(User.id == stored.user_id, User.password_hash == stored.password_hash)
        return (
            await self.session.scalars(statement.values(password_hash=new_hash).returning(User.id))
        ).one_or_none() is not None

    async def reset_password(
        self, user_id: UUID, *, email: str, password_hash: str, now: datetime | None = None
    ) -> bool | None:
        """Replace the hash and verify this canonical address; None if the account has another or is disabled.

        Returns True if nobody had verified the address before.
        """
        statement = update(User).where(User.id == user_id, User.email_canonical == email, User.disabled_at.is_(None))
        time = time_or_now(now)
        values = statement.values(
            password_hash=password_hash, email_verified_at=func.coalesce(User.email_verified_at, time)
        )
        return (await self.session.scalars(values.returning(User.email_verified_at == time))).one_or_none()

    async def verify_email(
        self, stored: Credentials, *, email: str, password_hash: str, now: datetime | None = None
    ) -> bool:
        """Mark this canonical address as verified, with this hash; return True only the first time.

        Returns False and changes nothing if another hash is stored by now, or the account has been disabled.
        """
        statement = update(User).where(
            User.id == stored.user_id,
            User.email_canonical == email,
            User.email_verified_at.is_(None),
            User.password_hash
            == stored.password_hash,  # guard: test_an_address_is_verified_once_and_only_if_it_is_the_accounts
            User.disabled_at.is_(None),
        )
        values = statement.values(email_verified_at=time_or_now(now), password_hash=password_hash)
        return (await self.session.scalars(values.returning(User.id))).one_or_none() is not None

    async def find_id(self, email: str) -> UUID | None:
        """Return the id of the account with this canonical address."""
        return (await self.session.scalars(_ID_OF, {"email": email})).one_or_none()

    async def ids_of(self, emails: Collection[str]) -> dict[str, UUID]:
        """Return the accounts with these canonical addresses, by one query; without addresses, by none."""
        if not emails:
            return {}
        rows = await self.session.execute(select(User.email_canonical, User.id).where(User.email_canonical.in_(emails)))
        return {row.email_canonical: row.id for row in rows}

    async def emails_of(self, user_ids: Collection[UUID]) -> dict[UUID, str]:
        """Return the addresses of these accounts by id; those that are gone are left out. Without ids, no query."""
        if not user_ids:
            return {}
        rows = await self.session.execute(select(User.id, User.email).where(User.id.in_(user_ids)))
        return {row.id: row.email for row in rows}

    async def among(self, user_ids: Collection[UUID]) -> Sequence[User]:
        """Return the current rows of those of these users that there are, by one query."""
        statement = select(User).where(User.id == func.any(bindparam("user_ids", [*user_ids], type_=ARRAY(Uuid))))
        return (await self.session.scalars(statement.execution_options(populate_existing=True))).all()

    async def with_sessions(self, user_id: UUID) -> tuple[User, list[UserSession]] | None:
        """Return the user with this id, and their sessions that have not expired, newest first, by one query."""
        alive = and_(UserSession.user_id == User.id, UserSession.idle_expires_at > func.now())
        both = select(User, UserSession).outerjoin(UserSession, alive).where(User.id == user_id)
        rows = (await self.session.execute(both.order_by(UserSession.id.desc()))).all()
        alone: list[UserSession | None] = [one for _, one in rows]  # one is None if there are none
        return (rows[0][0], [one for one in alone if one is not None]) if rows else None

    async def locked(self, user_id: UUID) -> User | None:
        """Return the user with this id, and lock the row until the transaction ends."""
        statement = select(User).where(User.id == user_id).with_for_update(key_share=True)
        return (await self.session.scalars(statement)).one_or_none()

    async def add_new(self, user: User) -> bool:
        """Insert the user; return False and change nothing if the address has an account already.

        Waits for a concurrent request that inserts the same address, so afterwards `find_id` finds that account.
        """
        values = {
            "id": user.id,
            "email": user.email,
            "email_canonical": user.email_canonical,
            "password_hash": user.password_hash,
            "email_verified_at": user.email_verified_at,
        }
        # ON CONFLICT names no index, because during REINDEX CONCURRENTLY its copy may be violated too.
        statement = insert(User).values(values).on_conflict_do_nothing()
        return (await self.session.scalars(statement.returning(User.id))).one_or_none() is not None

    async def add(self, user: User, *, taken: type[AppError]) -> None:
        """Insert the user.

        Raises:
            taken: when the address has an account already, also one that a concurrent request made.
        """
        self.session.add(user)
        with violation_as(taken, of="uq_users_email_canonical"):
            await self.session.flush()  # here, where the clash can still be named

    async def page(self, *, after: Cursor | None, limit: int, undeliverable: bool = False) -> Slice[User]:
        """Return a page of all accounts, or of those that mail cannot be delivered to, newest first."""
        accounts = select(User)
        if undeliverable:
            accounts = accounts.where(User.undeliverable_at.is_not(None))
        return await slice_after(self.session, accounts, after=after, limit=limit)

    async def matching(self, wanted: AccountFilter, *, after: Cursor | None, limit: int) -> Slice[User]:
        """Return a page of the accounts that match; see `account_lists.find`."""
        return await account_lists.find(self.session, wanted, after=after, limit=limit)

    async def note_undeliverable(self, user_id: UUID, *, email: str, because: str) -> None:
        """Mark the account as undeliverable, unless it has another canonical address by now."""
        statement = update(User).where(User.id == user_id, User.email_canonical == email)
        await self.session.execute(statement.values(undeliverable_at=func.now(), undeliverable_because=because))

    async def note_deliverable(self, user_id: UUID, *, email: str) -> None:
        """Clear the mark: a mail server accepted mail to this canonical address."""
        statement = update(User).where(User.id == user_id, User.email_canonical == email)
        await self.session.execute(statement.values(undeliverable_at=None, undeliverable_because=None))

    async def locked_among(self, user_ids: Collection[UUID]) -> dict[UUID, User]:
        """Return the current rows of these users by id, and lock them until the transaction ends, in their order."""
        statement = select(User).where(User.id.in_(user_ids)).order_by(User.id).with_for_update(key_share=True)
        rows = await self.session.scalars(statement.execution_options(populate_existing=True))
        return {user.id: user for user in rows}

    async def set_role(self, email: str, role: Role) -> UUID | None:
        """Give the account with this canonical address a role; return its id, or None if there is none."""
        statement = update(User).where(User.email_canonical == email).values(role=role).returning(User.id)
        return (await self.session.scalars(statement)).one_or_none()

    async def set_disabled(self, email: str, disabled_at: datetime | None) -> UUID | None:
        """Disable or enable the account with this canonical address; return its id, or None if there is none."""
        statement = update(User).where(User.email_canonical == email).values(disabled_at=disabled_at).returning(User.id)
        return (await self.session.scalars(statement)).one_or_none()

    async def delete(self, user_id: UUID) -> bool:
        """Delete the user and, by cascade, all their login sessions; return False if they are deleted already."""
        statement = delete(User).where(User.id == user_id).returning(User.id)
        return (await self.session.scalars(statement)).one_or_none() is not None
