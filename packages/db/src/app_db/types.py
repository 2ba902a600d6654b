"""Identifiers, time and enums as every package uses them."""

import secrets
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Dialect, Text
from sqlalchemy.types import TypeDecorator

KEY_TEXT = Text(collation="C")
"""The type of text in keys, constraints and indexes: compared by code points, not by the locale of the host.

An index in the order of the host's C library becomes wrong when that library changes its order (ADR-0009).

    name: Mapped[str] = mapped_column(KEY_TEXT)
"""


def utcnow() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def aware(moment: datetime) -> datetime:
    """Return a time from Postgres with its zone; UTC if the driver left it out, as it does for infinite times."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def new_id() -> UUID:
    """Return a UUIDv7: 48 bits of milliseconds, 12 bits of their fraction, 62 random bits (RFC 9562, 5.7 and 6.2).

    Ids of one process ascend with its clock to about 0.25 µs, so they index well and page by age.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    return UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | secrets.randbits(62))


def first_id_at(time: datetime) -> UUID:
    """Return the smallest id that `new_id` returns at this time or later, to the millisecond (1970 at least)."""
    return UUID(int=max(0, int(time.timestamp() * 1000)) << 80)


class StrEnumText[E: StrEnum](TypeDecorator[E]):
    """A StrEnum kept as text, so that a new member is a plain, reversible migration of the CHECK beside it."""

    impl = Text
    cache_ok = True

    def __init__(self, enum: type[E]) -> None:
        super().__init__(collation="C")
        self.enum = enum

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        """Refuse a value that is not a member, before Postgres does."""
        return None if value is None else self.enum(value).value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> E | None:  # Any: the driver's value
        """Return the member."""
        return None if value is None else self.enum(value)


def enum_check(column: str, enum: type[StrEnum]) -> CheckConstraint:
    """Return the CHECK that lets `column` hold the members of `enum` and nothing else."""
    members = ", ".join(f"'{member.value}'" for member in enum)
    return CheckConstraint(f"{column} IN ({members})", name=column)
