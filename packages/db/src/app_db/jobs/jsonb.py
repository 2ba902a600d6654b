"""The form in which a jsonb column returns values, and where it differs from the original."""

import json
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel

DEEPEST = 100
"""Limit of nested lists and objects in a payload, a result or a progress; pydantic writes up to 255 levels."""


def as_postgres_returns(text: str) -> str:
    """Return a JSON document as a jsonb column returns it: numbers lose their exponent, so 1e22 becomes an integer.

    Raises:
        ValueError: when it has more than `DEEPEST` levels.
    """
    document = json.loads(text, parse_float=_number)
    require_depth(document)
    return json.dumps(document)


def require_depth(document: Any) -> None:  # Any: JSON
    """Refuse a document that could be stored but not be read again.

    Raises:
        ValueError: when it has more than `DEEPEST` levels of lists and objects.
    """
    level = [document]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list | tuple)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError(f"lists and objects are nested in more than {DEEPEST} levels")


def difference(given: Any, restored: Any, where: str = "") -> str:  # Any: values of a payload
    """Return where `restored` differs from `given`, by value or by class; an empty text if they are equal.

    Times are equal across time zones. The text shows no values.
    """
    if _class_of(given) is not _class_of(restored):
        return f"{where or 'it'} would arrive as {type(restored).__name__}, not as {type(given).__name__}"
    if isinstance(given, BaseModel):
        return _of_items(_parts(given), _parts(restored), where)
    if is_dataclass(given):
        parts, others = ({each.name: getattr(one, each.name) for each in fields(one)} for one in (given, restored))
        return _of_items(parts, others, where)
    if isinstance(given, Mapping):
        return _of_items(given, restored, where)
    if isinstance(given, list | tuple | deque):
        return _of_items(dict(enumerate(given)), dict(enumerate(restored)), where)
    return "" if _equal(given, restored) else f"{where or 'it'} would arrive with another value"


def _parts(model: BaseModel) -> dict[str, Any]:
    declared = {name: getattr(model, name) for name in type(model).model_fields}
    return declared | (model.__pydantic_extra__ or {}) | (model.__pydantic_private__ or {})


def _of_items(given: Mapping[Any, Any], restored: Mapping[Any, Any], where: str) -> str:
    if len(given) != len(restored):
        return f"{where or 'it'} would arrive with {len(restored)} entries, not with {len(given)}"
    for (key, value), (restored_key, restored_value) in zip(given.items(), restored.items(), strict=True):
        path = f"{where}.{key}" if where else str(key)
        if _class_of(key) is not _class_of(restored_key) or key != restored_key:
            return f"a key of {where or 'it'} would arrive as another"
        if found := difference(value, restored_value, path):
            return found
    return ""


def _class_of(value: Any) -> type:
    if isinstance(value, UUID):  # asyncpg reads ids as a subclass of its own
        return UUID  # guard: test_an_id_as_the_driver_reads_it_is_an_id
    return type(value)


def _equal(given: Any, restored: Any) -> bool:
    if isinstance(given, datetime) and given.utcoffset() is not None and restored.utcoffset() is not None:
        # Python never calls times of different zones equal if one of them is in a repeated hour (PEP 495).
        return bool(given.astimezone(UTC) == restored.astimezone(UTC))
    if isinstance(given, set | frozenset):
        return bool(given == restored and Counter(map(_class_of, given)) == Counter(map(_class_of, restored)))
    return bool(given == restored)


def _number(text: str) -> int | float:
    plain = format(Decimal(text), "f")
    return float(plain) if "." in plain else int(plain)
