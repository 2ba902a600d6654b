"""A payload arrives as it was given, by value and by class, or is refused before anything is sent.

Reported of others: pydantic serialises a field by its declared type and drops what a subclass adds (pydantic #9022),
writes NaN and infinity as null (#7007), and jsonb keeps numbers as numeric, without exponents (PostgreSQL, 8.14).
"""

import json
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, Secret, SecretBytes, SecretStr
from sqlalchemy import select, text

from app_db import Session
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload, checked_json
from app_db.models import Job


class Anything(JobPayload):
    """Holds any value."""

    kind = "test.anything"
    value: Any = None


class Colour(StrEnum):
    """A text with a class."""

    RED = "red"


@dataclass
class Point:
    """A dataclass."""

    x: Any


class Part(BaseModel):
    """A nested model."""

    size: int


class LargerPart(Part):
    """A subclass with a field more."""

    colour: str = "red"


class Whole(JobPayload):
    """Holds a model, floats, sets, a dict and a union."""

    kind = "test.whole"
    part: Part = Part(size=1)
    amount: float = 0  # an integer: defaults are validated, too
    tags: frozenset[str] = frozenset()
    by_key: Mapping[int | str, int] = Field(default_factory=dict)
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    when: datetime | str = "now"
    point: Point = Point(1)
    points: deque[int] = Field(default_factory=deque)
    _note: str = PrivateAttr(default="")


class Open(JobPayload, extra="allow"):
    """Takes fields that it does not declare."""

    kind = "test.open"


class Count(JobPayload):
    """Plain fields only."""

    kind = "test.count"
    number: int = 1
    numbers: list[int] = Field(default_factory=list)


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "value",
    [
        b"bytes", (1, 2), {1: 2}, Colour.RED, Point(1), 1e22, 1e16, float("nan"), float("inf"), [(1,)], {"a": b"b"},
        {"a": {1, 2}}, LargerPart(size=1), {1: "a", "1": "b"}, [1.5e300], datetime(2026, 1, 1, tzinfo=UTC),
    ],
)  # fmt: skip
def test_a_payload_that_would_arrive_as_something_else_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"test\.anything: .*value.* would arrive .*JSON in Postgres cannot keep it"):
        checked_json(Anything(value=value))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"part": LargerPart(size=1, colour="blue")}, "part would arrive as Part, not as LargerPart"),
        ({"amount": float("nan")}, "valid number"),
        ({"amount": float("-inf")}, "valid number"),
        ({"by_key": {1: 1, "1": 2}}, "by_key would arrive with 1 entries, not with 2"),
        ({"by_key": {1: 1}}, "a key of by_key would arrive as another"),
        ({"when": "2026-01-01T00:00:00Z"}, "when would arrive as datetime, not as str"),
        ({"point": Point((1,))}, r"point\.x would arrive as list, not as tuple"),
    ],
)
def test_a_field_whose_value_would_change_is_named(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        checked_json(Whole(**fields))


def test_what_a_payload_keeps_beside_its_fields_does_not_get_lost_in_silence() -> None:
    payload = Whole()
    payload._note = "private"

    with pytest.raises(ValueError, match="_note would arrive with another value"):
        checked_json(payload)


def test_a_field_that_was_not_declared_is_compared_as_well() -> None:
    assert checked_json(Open.model_validate({"more": [1]})) == '{"more":[1]}'
    with pytest.raises(ValueError, match="more would arrive as list, not as tuple"):
        checked_json(Open.model_validate({"more": (1,)}))


def test_a_plain_field_with_a_value_of_another_class_is_refused() -> None:
    with pytest.raises(ValueError, match="number would arrive as int, not as bool"):
        checked_json(Count.model_construct(number=True))


def test_no_value_is_in_the_complaint() -> None:
    with pytest.raises(ValueError, match="would arrive") as error:
        checked_json(Anything(value={"a": b"a secret"}))

    assert "a secret" not in str(error.value)


@pytest.mark.parametrize(
    "payload",
    [
        Anything(value=[1, 2.5, "a", None, True, {"b": [0.1, 1e-7]}]),
        Whole(amount=1e22, tags=frozenset("abc"), by_key={"a": 1, "b": 2}, points=deque([1])),
        Whole(at=datetime(2026, 7, 1, 12, tzinfo=BERLIN)),
        Whole(at=datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1)),
        Whole(at=datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=45)))),
        Whole(at=datetime(2026, 7, 1)),  # noqa: DTZ001  # what is tested
        Count(number=10**30, numbers=[1, 2]),
    ],
)
async def test_what_is_accepted_is_read_as_it_was_given(session: Session, payload: JobPayload) -> None:
    job_id = await enqueue(session, payload)

    job = (await session.scalars(select(Job).where(Job.id == job_id))).one()
    read = type(payload).read(job.payload, job.payload_version)
    assert checked_json(read) == checked_json(type(payload).read(json.loads(checked_json(payload)), 1))
    assert {**vars(read), "at": None} == {**vars(payload), "at": None}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3) | st.tuples(inner),
    max_leaves=6,
)


@given(value=json_values)
def test_whatever_is_accepted_comes_back_as_it_was_given(value: Any) -> None:
    try:
        stored = checked_json(Anything(value=value))
    except ValueError:
        return

    assert repr(json.loads(stored)["value"]).replace("-0.0", "0.0") == repr(value).replace("-0.0", "0.0")


def test_a_payload_is_no_deeper_than_it_can_be_shown() -> None:
    value: Any = 1
    for _ in range(99):
        value = [value]

    checked_json(Anything(value=value))
    with pytest.raises(ValueError, match="more than 100 levels"):
        checked_json(Anything(value=[[value]]))


@pytest.mark.parametrize(
    ("annotation", "complaint"),
    [
        (SecretStr, "is a SecretStr"),
        (list[SecretBytes] | None, "is a SecretBytes"),
        (Secret[int], "is a Secret"),
        (dict[str, Annotated[SecretStr, Field(min_length=1)]], "is a SecretStr"),
        (OrderedDict[str, int], "is a OrderedDict"),
        (Callable[[int], int], "is a Callable"),
        (Iterable[int], "is a Iterable"),
        (Annotated[int, Field(exclude=True)], "is excluded from JSON, so the handler would never get it"),
        (Annotated[int, Field(alias="n")], "has an alias"),
    ],
)
def test_a_class_whose_fields_cannot_arrive_is_refused_when_it_is_made(annotation: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=rf"Made\.field {complaint}"):
        type("Made", (JobPayload,), {"kind": "test.made", "__annotations__": {"field": annotation}})


def test_a_class_with_a_secret_deep_within_is_refused_when_it_is_made() -> None:
    class Login(BaseModel):
        name: str
        password: SecretStr
        again: "Login | None" = None

    with pytest.raises(TypeError, match=r"Made\.login is a SecretStr"):
        type("Made", (JobPayload,), {"kind": "test.made", "__annotations__": {"login": list[Login]}})


def test_a_field_may_have_an_alias_where_its_name_is_read_as_well() -> None:
    class Named(JobPayload):
        model_config = ConfigDict(validate_by_name=True)
        kind: ClassVar[str] = "test.named"
        number: Annotated[int, Field(alias="n")] = 1

    assert checked_json(Named(number=2)) == '{"number":2}'


@pytest.mark.parametrize(
    ("attributes", "complaint"),
    [
        ({"kind": ""}, "the kind of Made needs a name"),
        ({"kind": "k" * 201}, "the kind of Made has 201 characters, 200 are allowed"),
        ({"kind": "a\0"}, r"the kind of Made 'a\\x00' holds U\+0000"),
        ({"kind": "k", "version": 0}, "the version of Made is not between 1 and 32767"),
        ({"kind": "k", "version": 32768}, "the version of Made is not between 1 and 32767"),
    ],
)
def test_a_class_that_the_ledger_cannot_name_is_refused_when_it_is_made(
    attributes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        type("Made", (JobPayload,), attributes)


def test_a_base_of_several_kinds_needs_no_kind() -> None:
    class AboutSomebody(JobPayload):
        user_id: UUID

    class Greet(AboutSomebody):
        kind: ClassVar[str] = "test.greet"

    greeting = Greet(user_id=UUID(int=1))
    assert checked_json(greeting) == f'{{"user_id":"{greeting.user_id}"}}'
    assert not hasattr(AboutSomebody, "kind")


async def test_an_id_as_the_driver_reads_it_is_an_id(session: Session) -> None:
    """asyncpg reads a uuid as a subclass of uuid.UUID (asyncpg.pgproto), and SQLAlchemy hands it on."""
    read = (await session.execute(text("SELECT gen_random_uuid()"))).scalar_one()
    assert type(read) is not UUID
    assert isinstance(read, UUID)

    checked_json(Ids(one=read, keys={read: 1}, some=frozenset({read})))


class Ids(JobPayload):
    """Holds ids in several types of field."""

    kind = "test.ids"
    one: UUID
    keys: dict[UUID, int]
    some: frozenset[UUID]
