"""Keyset pages: newest first, stable while rows come and go, as cheap on the last page as on the first."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from uuid import UUID

from sqlalchemy import Select

from app_db.session import Session

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place after one row. On the wire it is opaque text, so that its content may change."""

    last_id: UUID
    at: datetime | None = None
    """The time of that row, in a list that a time puts in order; ids decide between equal times."""

    def __str__(self) -> str:
        time = b"" if self.at is None else ((self.at - _EPOCH) // _MICROSECOND).to_bytes(8, signed=True)
        return base64.urlsafe_b64encode(self.last_id.bytes + time).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of a cursor.

        Raises:
            ValueError: for any other text.
        """
        try:
            content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            at = _EPOCH + int.from_bytes(content[16:], signed=True) * _MICROSECOND if content[16:] else None
            cursor = cls(UUID(bytes=content[:16]), at)
        except (binascii.Error, ValueError, OverflowError) as exc:
            raise ValueError("not a cursor of this API") from exc
        if str(cursor) != text:  # base64 can spell the same bytes in several ways; accept one of them
            raise ValueError("not a cursor of this API")
        return cursor


@dataclass(frozen=True, slots=True)
class Slice[T]:
    """One page, and the cursor of the next one if there is any."""

    items: Sequence[T]
    next: Cursor | None
    partial: bool = False
    """Whether the search ended at a limit of its own, so that the page may not be full; `next` may lead to more."""


async def slice_after[T](session: Session, statement: Select[T], *, after: Cursor | None, limit: int) -> Slice[T]:
    """Return up to `limit` entities of `statement`, newest first, that come after the cursor.

    The entity needs an `id` from `new_id()`: ids ascend with time, so they are the order too.

    Example:
        users = select(User).where(User.disabled_at.is_(None))
        page = await slice_after(session, users, after=None, limit=20)
        if page.next is not None:
            rest = await slice_after(session, users, after=page.next, limit=20)
    """
    key = statement.column_descriptions[0]["entity"].id
    if after is not None:
        statement = statement.where(key < after.last_id)
    rows = (await session.scalars(statement.order_by(key.desc()).limit(limit + 1))).all()
    page = rows[:limit]
    return Slice(page, Cursor(page[-1].id) if len(rows) > limit else None)  # type: ignore[attr-defined]  # has an id, see above
