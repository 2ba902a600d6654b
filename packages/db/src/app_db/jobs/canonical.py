"""A canonical form of values: equal values have the same text, in every process and every release."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

MOST_DIGITS = 400
BY_TEXT = (UUID, PurePath, IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
"""Types whose values are equal if and only if their texts are equal."""


def canonical(value: Any, *, defaults: bool) -> Any:  # Any: values of a payload, and JSON
    """Return JSON that is the same for equal values, and different for all others.

    Numbers are equal across classes (1, 1.0, Decimal("1.00"), True), times across time zones, sets in any order.

    Args:
        value: a payload or a part of one.
        defaults: whether to include fields that have their default value. Without them, a payload has the same text
            before and after a release that adds a field.

    Raises:
        ValueError: for a value of a class whose `==` this module does not know.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str):
        return value
    for types, one_text in SCALARS:
        if isinstance(value, types):
            return one_text(value)
    if isinstance(value, BaseModel) and type(value).__eq__ is BaseModel.__eq__:
        value = _fields(value, defaults=defaults)
    return _of_container(value, partial(canonical, defaults=defaults))


def as_text(document: Any) -> str:  # Any: JSON
    """Return the canonical text of a JSON document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _key(key: Any) -> str:  # Any: of a dict
    name = canonical(key, defaults=True)
    return name if isinstance(name, str) else as_text(name)


def _of_container(value: Any, inner: Callable[[Any], Any]) -> Any:  # Any: as in canonical
    equality: Any = type(value).__eq__
    if equality in {list.__eq__, tuple.__eq__}:
        return [inner(each) for each in value]
    if equality in {set.__eq__, frozenset.__eq__}:
        return sorted(map(inner, value), key=as_text)
    if equality == dict.__eq__:
        return {_key(key): inner(each) for key, each in value.items()}
    raise ValueError(
        f"a job cannot be unique by a {type(value).__name__}: which of them are equal is not known; name the fields in "
        "`by`, or give a `key`"
    )


def _fields(model: BaseModel, *, defaults: bool) -> dict[str, Any]:
    values = {name: getattr(model, name) for name in type(model).model_fields}
    if not defaults:
        values = {name: value for name, value in values.items() if not _is_default(model, name, value)}
    return values | (model.__pydantic_extra__ or {})


def _is_default(model: BaseModel, name: str, value: Any) -> bool:  # Any: of the field
    field = type(model).model_fields[name]
    if field.is_required():
        return False
    return bool(field.get_default(call_default_factory=True, validated_data={}) == value)


def _number(value: float | Decimal) -> Any:  # Any: JSON; bool and int come here as well
    if isinstance(value, Decimal) and value and not -MOST_DIGITS < value.adjusted() < MOST_DIGITS:
        sign, digits, exponent = value.as_tuple()  # int(value) would build an integer of that many digits
        text = "".join(map(str, digits))
        return {"number": [sign, text.rstrip("0"), int(exponent) + len(text) - len(text.rstrip("0"))]}
    if value == int(value):
        return int(value)
    if isinstance(value, Decimal) and value != float(value):
        return {"number": format(value, "f").rstrip("0")}
    return float(value)


def _time_text(value: date | time | timedelta) -> str:
    match value:
        case timedelta():
            return str(value)
        case datetime() if value.utcoffset() is not None:
            return value.astimezone(UTC).isoformat()
        case time() if (offset := value.utcoffset()) is not None:
            return f"{timedelta(hours=value.hour, minutes=value.minute) - offset} {value.second} {value.microsecond}"
    return value.isoformat()


SCALARS: Final[Sequence[tuple[tuple[type, ...], Callable[[Any], Any]]]] = (
    ((int, float, Decimal), _number),
    ((datetime, date, time, timedelta), _time_text),
    ((bytes,), lambda value: value.decode("latin-1")),
    (BY_TEXT, str),
)
