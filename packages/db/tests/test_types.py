"""Ids, time and enums."""

import time
from datetime import UTC, timedelta
from enum import StrEnum
from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest
from sqlalchemy import Column, MetaData, Table, func, insert, literal, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from app_db import Session
from app_db.models import Role, User
from app_db.testing.plugin import MakeUser
from app_db.types import StrEnumText, enum_check, new_id, utcnow


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


def unix_milliseconds(uuid: UUID) -> int:
    return uuid.int >> 80


def test_an_id_is_a_version_7_uuid() -> None:
    identifier = new_id()

    assert (identifier.version, identifier.variant) == (7, RFC_4122)


def test_an_id_begins_with_the_milliseconds_of_its_making() -> None:
    before = time.time_ns() // 1_000_000
    identifier = new_id()
    after = time.time_ns() // 1_000_000

    assert before <= unix_milliseconds(identifier) <= after


def test_ids_ascend_within_a_millisecond() -> None:
    ids = []
    for _ in range(500):
        ids.append(new_id())
        made = time.time_ns()
        while time.time_ns() - made < 1_000:  # four times the resolution of the fraction
            pass

    assert all(earlier < later for earlier, later in pairwise(ids))


def test_ids_of_one_moment_differ() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000


async def test_postgres_reads_the_same_moment_from_an_id(session: Session) -> None:
    identifier = new_id()

    moment = (await session.scalars(select(func.uuid_extract_timestamp(identifier)))).one()

    assert abs(moment - utcnow()) < timedelta(minutes=1)


def test_the_time_is_aware_and_utc() -> None:
    assert utcnow().tzinfo is UTC


async def test_an_enum_comes_back_as_its_member(session: Session, make_user: MakeUser) -> None:
    user = await make_user(role=Role.OPERATOR)

    role = (await session.scalars(select(User.role).where(User.id == user.id))).one()

    assert role is Role.OPERATOR


async def test_an_absent_enum_stays_absent(session: Session) -> None:
    absent = (await session.scalars(select(literal(None, StrEnumText(Size))))).one()

    assert absent is None


async def test_what_is_no_member_is_not_even_sent(session: Session) -> None:
    with pytest.raises(StatementError, match="not a valid Size"):
        await session.scalars(select(literal("huge", StrEnumText(Size))))


async def test_what_is_no_member_is_refused_by_the_check(session: Session, make_user: MakeUser) -> None:
    await make_user()

    with pytest.raises(IntegrityError, match="ck_users_role"):
        await session.execute(text("UPDATE users SET role = 'emperor'"))


async def test_the_check_lets_every_member_in(session: Session) -> None:
    table = Table("sizes", MetaData(), Column("size", StrEnumText(Size)), enum_check("size", Size), prefixes=["TEMP"])
    connection = await session.connection()
    await connection.run_sync(table.create)

    await session.execute(insert(table), [{"size": size} for size in Size])

    assert set(await session.scalars(select(table.c.size))) == set(Size)
