"""The types that a field can have: in Python, in PostgreSQL, on the wire, and in tests."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A type of a field."""

    python: str
    column: str = ""
    """The argument of `mapped_column`; empty if SQLAlchemy knows it from the type."""
    bounds: str = ""
    """The arguments of `Annotated[…]` for the wire; empty if the type says it all."""
    samples: tuple[str, str, str]
    """Three values as JSON has them."""
    default: str
    """A value in Python, for the factory."""
    other: str
    """Another value in Python, for a test that changes the first."""
    key: str = ""
    """A value in Python that is new for each `{id}`; empty if a field of this type cannot be unique."""


KINDS: Final = {
    # An entry of an index in PostgreSQL has 2,704 bytes: a unique key is the owner and 500 characters of four bytes.
    "str": Kind(
        python="str",
        column="Text",
        bounds="str, Field(min_length=1, max_length=500)",
        samples=('"first"', '"second"', '"third"'),
        default='"some words"',
        other='"other words"',
        key='f"{name}-{{{id}.hex}}"',
    ),
    "text": Kind(
        python="str",
        column="Text",
        bounds="str, Field(max_length=10_000)",
        samples=('"first"', '"second"', '"third"'),
        default='"some words"',
        other='"other words"',
    ),
    "int": Kind(
        python="int",
        bounds="int, Field(ge=-(2**31), lt=2**31)",
        samples=("1", "2", "3"),
        default="1",
        other="2",
        key="{id}.int % 2**31",
    ),
    "bool": Kind(python="bool", samples=("True", "False", "True"), default="True", other="False"),
    "float": Kind(
        python="float",
        bounds="float, Field(allow_inf_nan=False)",
        samples=("1.5", "2.5", "3.5"),
        default="1.5",
        other="2.5",
    ),
    "decimal": Kind(
        python="Decimal",
        column="Numeric(12, 2)",
        bounds="Decimal, Field(max_digits=12, decimal_places=2)",
        samples=('"1.50"', '"2.50"', '"3.50"'),
        default='Decimal("1.50")',
        other='Decimal("2.50")',
    ),
    # asyncpg fails near the first and the last year of Python if a time zone moves a moment out of them.
    "datetime": Kind(
        python="datetime",
        bounds="AwareDatetime, Field(ge=datetime(1900, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC))",
        samples=('"2026-01-01T12:00:00Z"', '"2026-01-02T12:00:00Z"', '"2026-01-03T12:00:00Z"'),
        default="utcnow()",
        other="utcnow() + timedelta(days=1)",
    ),
    "date": Kind(
        python="date",
        samples=('"2026-01-01"', '"2026-01-02"', '"2026-01-03"'),
        default="utcnow().date()",
        other="utcnow().date() + timedelta(days=1)",
    ),
    "UUID": Kind(
        python="UUID",
        samples=(
            '"01980000-0000-7000-8000-000000000001"',
            '"01980000-0000-7000-8000-000000000002"',
            '"01980000-0000-7000-8000-000000000003"',
        ),
        default="new_id()",
        other="new_id()",
        key="{id}",
    ),
    "list[str]": Kind(
        python="list[str]",
        column="ARRAY(Text)",
        bounds="list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=50)",
        samples=('["first"]', '["second", "first"]', "[]"),
        default='["some", "words"]',
        other='["other"]',
    ),
}
"""The types, by the words that people type."""
