"""Keyset pages: newest first, stable while rows come and go, as cheap on the last page as on the first."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from sqlalchemy import Select

from app_db.session import Session


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place after one row. On the wire it is opaque text, so that its content may change."""

    last_id: UUID

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(self.last_id.bytes).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of a cursor.

        Raises:
            ValueError: for any other text.
        """
        try:
            cursor = cls(UUID(bytes=base64.b64decode(text + "==", altchars=b"-_", validate=True)))
        except (binascii.Error, ValueError) as exc:
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
    """Whether the page ends before it is full, because the search has a limit: `next` may lead to more."""


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
