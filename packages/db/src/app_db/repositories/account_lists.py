"""Finds accounts by a filter, without a scan of the table: each list is a range of an index (`walks`)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, literal, select

from app_db.models import Role, User
from app_db.paging import Cursor, Slice
from app_db.repositories.walks import Conditions, Order, walk
from app_db.session import Session

MOST_ADDRESSES: Final = 1000
"""So many addresses with a beginning are found, in the order of addresses; who means others types more of it."""
_LAST_CHARACTER: Final = "\U0010ffff"


class AccountState(StrEnum):
    """What an account can be; several at once."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    DISABLED = "disabled"
    UNDELIVERABLE = "undeliverable"
    """Mail to it was last refused for good."""


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Chooses the accounts that match all values that are given."""

    address: str = ""
    """The beginning of a canonical address."""
    state: AccountState | None = None
    role: Role | None = None
    signed_in_since: datetime | None = None
    signed_in_before: datetime | None = None
    never_signed_in: bool = False
    """Or not since sign-ins are recorded."""

    @property
    def is_by_sign_in(self) -> bool:
        """Whether the last sign-in decides, so that it puts the list in order."""
        return self.signed_in_since is not None or self.signed_in_before is not None or self.never_signed_in

    def sign_ins(self, user: Any = User) -> list[ColumnElement[bool]]:  # Any: the model, or its alias
        """Return the conditions of the last sign-in."""
        conditions = [user.signed_in_at.is_(None)] if self.never_signed_in else []
        if self.signed_in_since is not None:
            conditions.append(user.signed_in_at >= self.signed_in_since)
        if self.signed_in_before is not None:
            conditions.append(user.signed_in_at < self.signed_in_before)
        return conditions

    def seldom(self, user: Any = User) -> list[ColumnElement[bool]]:  # Any: as above
        """Return the conditions that have an index of their own, written so that Postgres can use it."""
        columns = {
            AccountState.UNVERIFIED: user.email_verified_at.is_(None),
            AccountState.DISABLED: user.disabled_at.is_not(None),
            AccountState.UNDELIVERABLE: user.undeliverable_at.is_not(None),
        }
        conditions = [columns[self.state]] if self.state in columns else []
        if self.role is Role.OPERATOR:
            # Not a parameter: a generic plan could not prove that the partial index applies.
            conditions.append(user.role == literal(Role.OPERATOR, user.role.type, literal_execute=True))
        return conditions

    def frequent(self, user: Any = User) -> list[ColumnElement[bool]]:  # Any: as above
        """Return the conditions that most accounts may fulfil: no index has them."""
        conditions = [user.email_verified_at.is_not(None)] if self.state is AccountState.VERIFIED else []
        return [*conditions, user.role == self.role] if self.role is Role.USER else conditions


async def find(session: Session, wanted: AccountFilter, *, after: Cursor | None, limit: int) -> Slice[User]:
    """Return a page of the accounts that match: the newest first, or the last sign-in first if the filter names it.

    The page ends early, and says so, when enough accounts were looked at; its cursor goes on from there. If more than
    `MOST_ADDRESSES` addresses have the beginning, it says so too.
    """
    if wanted.address:
        return await _by_address(session, wanted, after=after, limit=limit)
    by_sign_in: Order = (User.signed_in_at, User.id)
    order, within = (by_sign_in, wanted.sign_ins()) if wanted.is_by_sign_in else ((User.id,), wanted.seldom())

    def rest(user: Any) -> list[ColumnElement[bool]]:  # Any: as above
        return [*(wanted.seldom(user) if wanted.is_by_sign_in else []), *wanted.frequent(user)]

    sift: Conditions | None = rest if rest(User) else None
    return await walk(session, User, order=order, within=within, sift=sift, after=after, limit=limit)


async def _by_address(session: Session, wanted: AccountFilter, *, after: Cursor | None, limit: int) -> Slice[User]:
    # Not LIKE: `_` and `%` are characters of addresses.
    low, high = wanted.address, wanted.address + _LAST_CHARACTER
    statement = select(User.id).where(User.email_canonical >= low, User.email_canonical <= high)
    statement = statement.order_by(User.email_canonical).limit(MOST_ADDRESSES + 1)
    ids = (await session.scalars(statement)).all()
    within = [User.id.in_(ids[:MOST_ADDRESSES]), *wanted.sign_ins(), *wanted.seldom(), *wanted.frequent()]
    page = await walk(session, User, order=(User.id,), within=within, after=after, limit=limit)
    return Slice(page.items, page.next, partial=len(ids) > MOST_ADDRESSES)
