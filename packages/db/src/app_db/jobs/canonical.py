"""One text for equal values: the same in every process, whatever release it runs."""

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
"""Types whose values are equal exactly when their texts are."""


def canonical(value: Any, *, defaults: bool) -> Any:  # Any: what a payload may hold, and JSON
    """Return JSON that is the same for equal values, and only for these.

    A number is the same whatever its class (1, 1.0, Decimal("1.00"), True), a moment in whatever time zone, a set in
    whatever order.

    Args:
        value: a payload or a part of one.
        defaults: whether fields of models that have their default are in it. Without them a payload has one text before
            and after a release that adds a field.

    Raises:
        ValueError: for a value of a class whose `==` is not known here.
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
    """Return the one text of a JSON document."""
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


def _number(value: float | Decimal) -> Any:  # Any: JSON; bool and int are numbers as well
    if isinstance(value, Decimal) and value and not -MOST_DIGITS < value.adjusted() < MOST_DIGITS:
        sign, digits, exponent = value.as_tuple()  # an integer of so many digits would be built
        text = "".join(map(str, digits))
        return {"number": [sign, text.rstrip("0"), int(exponent) + len(text) - len(text.rstrip("0"))]}
    if value == int(value):
        return int(value)
    if isinstance(value, Decimal) and value != float(value):
        return {"number": format(value, "f").rstrip("0")}
    return float(value)


def _moment(value: date | time | timedelta) -> str:
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
    ((datetime, date, time, timedelta), _moment),
    ((bytes,), lambda value: value.decode("latin-1")),
    (BY_TEXT, str),
)
