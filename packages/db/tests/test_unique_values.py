"""Equal values are one unique job in every process and release, and different values are different jobs.

Reported of others: a digest over text that depends on the process or the release lets duplicates in (river #1017 on
fields added later, Oban's `unique` on reordered keys).
"""

import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from app_db import Database
from app_db.jobs.canonical import as_text, canonical
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.jobs.unique import Unique
from app_db.types import new_id

IN_PROCESS = """
from app_db.jobs.payload import JobPayload
from app_db.jobs.unique import Unique

class Tagged(JobPayload):
    kind = "test.tagged"
    tags: frozenset[str]
    by_tag: dict[str, set[int]]

payload = Tagged(tags=frozenset("abcdefgh"), by_tag={"b": {1, 2, 3}, "a": set()})
print(Unique().digest(payload))
"""


class Level(IntEnum):
    """A number with a class."""

    ONE = 1


class Size(StrEnum):
    """A text with a class."""

    S = "s"


class Inner(BaseModel):
    """A nested model."""

    a: int
    b: int = 5
    made: list[int] = Field(default_factory=list)


class Peculiar(BaseModel):
    """Compares names without regard to case."""

    name: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Peculiar) and other.name.lower() == self.name.lower()

    __hash__ = None  # type: ignore[assignment]  # as Python does it for whoever defines ==


class Holder(JobPayload):
    """Holds anything."""

    kind = "test.holder"
    value: Any


INDIA = timezone(timedelta(hours=5, minutes=30))


def digest(value: Any) -> str:
    return Unique().digest(Holder(value=value))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0), (1, True), (1, Decimal("1.00")), (0.5, Decimal("0.50")), (0.0, -0.0), (1, Level.ONE), ("s", Size.S),
        (Decimal("1E+999999999"), Decimal("10E+999999998")), (Decimal("1E-999999999"), Decimal("10E-1000000000")),
        (Decimal("0.10"), Decimal("0.1")), (Decimal("0E+500"), 0), (frozenset("ab"), frozenset("ba")),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}), ({1: "x"}, {True: "x"}),
        (datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 17, 30, tzinfo=INDIA)),
        (time(12, tzinfo=UTC), time(17, 30, tzinfo=INDIA)), (timedelta(days=1), timedelta(hours=24)),
        (Inner(a=1), Inner(a=1, b=5, made=[])), (PurePosixPath("a//b"), PurePosixPath("a/b")),
    ],
)  # fmt: skip
def test_equal_values_are_one_unique_job(one: Any, other: Any) -> None:
    assert one == other

    assert digest(one) == digest(other)


DIFFERENT: list[Any] = [
    None, 0, 1, 2, 0.1, Decimal("0.1"), Decimal("1E+999999999"), Decimal("-1E+999999999"), Decimal("2E+999999999"), "",
    "1", [1], [[1]], {1, 2}, [2, 1], {"a": "1"}, Inner(a=1), Inner(a=1, b=6), Inner(a=1, made=[1]), date(2026, 1, 1),
    datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=INDIA), time(1),  # noqa: DTZ001
    time(1, tzinfo=UTC), timedelta(1), UUID(int=1), ip_address("::1"), b"bytes",
]  # fmt: skip


def test_different_values_are_different_unique_jobs() -> None:
    assert max(Counter(map(digest, DIFFERENT)).values()) == 1


numbers = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.integers(0, 2) | st.booleans(), inner, max_size=2)
        | st.dictionaries(st.text("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(one=values, other=values)
def test_values_have_one_text_exactly_when_they_are_equal(one: Any, other: Any) -> None:
    assert (as_text(canonical(one, defaults=True)) == as_text(canonical(other, defaults=True))) is (one == other)


def test_every_process_agrees_on_what_is_the_same() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", IN_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "12345"
    }

    assert len(digests) == 1


@pytest.mark.parametrize("value", [Peculiar(name="a"), Counter("a"), object(), {Ellipsis}])
def test_a_value_whose_equality_is_not_known_is_refused(value: Any) -> None:
    with pytest.raises(
        ValueError, match=r"a job cannot be unique by a \w+: .* name the fields in `by`, or give a `key`"
    ):
        digest(value)


class Import(JobPayload):
    """The payload in one release."""

    kind = "test.import"
    source: str


class LaterImport(JobPayload):
    """The payload in the next release: with more fields."""

    kind = "test.import"
    source: str
    full: bool = False
    tags: tuple[str, ...] = ()


class StrictImport(JobPayload):
    """The payload in another release: with another default."""

    kind = "test.import"
    source: str
    full: bool = True


async def accept(database: Database, payload: JobPayload, unique: Unique) -> UUID:
    async with database.sessions.begin() as session:
        return await enqueue(session, payload, unique=unique)


@pytest.mark.parametrize("unique", [Unique(), Unique(by=("source",)), Unique(key="import")])
async def test_a_field_that_was_added_with_a_default_makes_no_second_job(database: Database, unique: Unique) -> None:
    first = await accept(database, Import(source="a"), unique)

    again = await accept(database, LaterImport(source="a"), unique)
    back = await accept(database, Import(source="a"), unique)

    assert {first, again, back} == {first}


async def test_a_release_that_reads_less_takes_its_own_digest_for_the_same(database: Database) -> None:
    first = await accept(database, LaterImport(source="a"), Unique())

    assert await accept(database, Import(source="a"), Unique()) == first


async def test_a_job_that_was_enqueued_with_another_default_is_another_job(database: Database) -> None:
    loose = await accept(database, LaterImport(source="a"), Unique())

    strict = await accept(database, StrictImport(source="a"), Unique())
    again = await accept(database, StrictImport(source="a"), Unique())

    assert strict != loose
    assert again == strict


async def test_what_this_release_cannot_read_is_what_its_digest_says(database: Database) -> None:
    class Renumbered(JobPayload):
        kind: ClassVar[str] = "test.import"
        source: str
        full: int = 7

    first = await accept(database, Renumbered(source="a"), Unique())

    assert await accept(database, LaterImport(source="a"), Unique()) == first


async def test_a_default_that_is_given_is_the_default(database: Database) -> None:
    class Dated(JobPayload):
        kind: ClassVar[str] = "test.dated"
        id: UUID = Field(default_factory=new_id)

    one, other = Dated(), Dated()

    assert await accept(database, one, Unique()) == await accept(database, one, Unique())
    assert await accept(database, other, Unique()) != await accept(database, one, Unique())
