"""Checks of the fields of a payload class: whether their values come back from JSON unchanged."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

LOSSY: tuple[type, ...] = (SecretStr, SecretBytes, Secret, OrderedDict, Iterator)
"""Types whose values JSON loses: secrets become asterisks, an OrderedDict its order, an iterator everything."""
PLAIN = frozenset({str, int, bool, UUID, datetime, date, time, timedelta, Decimal, NoneType})
CONTAINERS = frozenset({list, tuple, set, frozenset, dict})


def require_storable_fields(model: type[BaseModel]) -> None:
    """Refuse a class whose instances cannot come back from JSON unchanged.

    Raises:
        TypeError: with the name of the field and what to do.
    """
    for name, field in model.model_fields.items():
        if reason := _why_not(field, model):
            raise TypeError(
                f"{model.__name__}.{name} {reason}"
            )  # guard: test_a_class_whose_fields_cannot_arrive_is_refused_when_it_is_made


def can_change_on_the_way(model: type[BaseModel]) -> bool:
    """Return whether JSON or Postgres may change a value of this class; they cannot if all types are plain."""
    if model.model_config.get("extra") == "allow" or model.__private_attributes__:
        return True
    return not all(_is_plain(field.annotation) for field in model.model_fields.values())


def _why_not(field: FieldInfo, model: type[BaseModel]) -> str:
    if field.exclude:
        return "is excluded from JSON, so the handler would never get it: remove the field"
    by_name = model.model_config.get("validate_by_name") or model.model_config.get("populate_by_name")
    if (field.validation_alias or field.serialization_alias) and not by_name:
        return "has an alias: a payload is stored under the names of its fields"
    lossy = next((each for each in _types_in(field.annotation, set()) if _is_lossy(each)), None)
    if lossy is None:
        return ""
    return (
        f"is a {getattr(lossy, '__name__', lossy)}, which JSON in Postgres cannot keep: store what names it, as an id"
    )


def _is_lossy(each: Any) -> bool:  # Any: a type
    return each in {Callable, Iterable} or (isinstance(each, type) and issubclass(each, LOSSY))


def _types_in(annotation: Any, seen: set[Any]) -> Iterator[Any]:  # Any: types
    """Yield the types of an annotation, and of nested models."""
    origin = get_origin(annotation) or annotation
    if origin is Literal or annotation in seen:
        return
    seen.add(annotation)
    yield origin
    inner = get_args(annotation)[:1] if origin is Annotated else get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        inner = (*inner, *(field.annotation for field in origin.model_fields.values()))
    for each in inner:  # a Callable has a list of parameters here; the caller stops at the Callable, which is lossy
        yield from _types_in(each, seen)


def _is_plain(annotation: Any) -> bool:  # Any: a type
    origin = get_origin(annotation) or annotation
    arguments = [each for each in get_args(annotation) if each is not Ellipsis]
    if origin is Literal or annotation in PLAIN:
        return True
    if origin in {Union, UnionType}:  # JSON may turn a value of one type into the other type
        return len(others := [each for each in arguments if each is not NoneType]) == 1 and _is_plain(others[0])
    if origin in CONTAINERS:
        return bool(arguments) and all(map(_is_plain, arguments))
    return isinstance(annotation, type) and issubclass(annotation, Enum) and not issubclass(annotation, Flag)
