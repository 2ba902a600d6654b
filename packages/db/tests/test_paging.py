"""Keyset pages and their cursors."""

import base64
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from app_db import Session
from app_db.models import JobError, User
from app_db.paging import Cursor, slice_after
from app_db.testing.plugin import MakeUser
from app_db.types import new_id, utcnow

USERS = select(User)


async def test_the_newest_come_first(session: Session, make_user: MakeUser) -> None:
    ids = [(await make_user()).id for _ in range(3)]

    page = await slice_after(session, USERS, after=None, limit=10)

    assert [user.id for user in page.items] == sorted(ids, reverse=True)


async def test_pages_are_disjoint_and_miss_nothing(session: Session, make_user: MakeUser) -> None:
    ids = [(await make_user()).id for _ in range(5)]

    first = await slice_after(session, USERS, after=None, limit=2)
    second = await slice_after(session, USERS, after=first.next, limit=2)
    third = await slice_after(session, USERS, after=second.next, limit=2)

    seen = [user.id for page in (first, second, third) for user in page.items]
    assert seen == sorted(ids, reverse=True)


async def test_the_last_page_has_no_next(session: Session, make_user: MakeUser) -> None:
    await make_user()
    await make_user()

    page = await slice_after(session, USERS, after=None, limit=2)

    assert page.next is None


async def test_an_empty_page_has_no_next(session: Session) -> None:
    page = await slice_after(session, select(JobError), after=None, limit=2)

    assert (list(page.items), page.next) == ([], None)


async def test_what_is_added_meanwhile_does_not_move_the_next_page(session: Session, make_user: MakeUser) -> None:
    ids = [(await make_user()).id for _ in range(2)]
    first = await slice_after(session, USERS, after=None, limit=1)
    await make_user()

    second = await slice_after(session, USERS, after=first.next, limit=1)

    assert [user.id for user in second.items] == [min(ids)]


def test_a_cursor_survives_the_wire() -> None:
    cursor = Cursor(new_id())

    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize("at", [utcnow(), datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=UTC)])
def test_a_cursor_in_the_order_of_a_time_survives_the_wire(at: datetime) -> None:
    cursor = Cursor(new_id(), at)

    assert Cursor.parse(str(cursor)) == cursor


def test_a_cursor_needs_no_escaping_in_a_url() -> None:
    texts = "".join(str(Cursor(new_id())) for _ in range(200))

    assert set(texts) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "not a cursor",
        "é" * 22,
        "A" * 23,
        "A" * 44,
        base64.urlsafe_b64encode(bytes(16) + b"\x7f" * 8).decode(),  # a time that no datetime can be
        base64.urlsafe_b64encode(bytes(16)).decode(),  # with its padding
        "A" * 21 + "B",  # the same bytes as 22 As: the last four bits are lost
        "A" * 21 + "\n",
        "A" * 21 + "+",
    ],
)
def test_any_other_text_is_not_a_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.parse(text)
