"""The fields of a feature, as they are typed: `url:str! title:str? tags:list[str]`."""

import builtins
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import BaseModel

from app_db.base import Base
from generator.errors import Refused
from generator.kinds import KINDS, Kind
from generator.words import LONGEST_NAME, NAME, camel

MOST_FIELDS: Final = 12
"""With more fields, functions that name each of them are longer than a screen."""
_FIELD: Final = re.compile(r"(?P<name>[^:]*):(?P<kind>[^?!]*)(?P<marks>[?!]*)")
# Columns that each feature has, and names that its modules use for something else.
_OWN: Final = frozenset({"id", "owner_id", "created_at", "updated_at"})
_USED: Final = frozenset({"date", "datetime", "log", "owner", "principal", "session"})
_SCHEMAS: Final = frozenset({"create", "page", "read", "update"})


@dataclass(frozen=True, slots=True)
class Field:
    """A column, and a member on the wire."""

    name: str
    kind: Kind
    is_optional: bool = False
    is_unique: bool = False
    """Whether no two things of one owner may have the same value."""

    @property
    def words(self) -> str:
        """In a sentence: `due date`."""
        return self.name.replace("_", " ")

    @property
    def python(self) -> str:
        """Its type in Python, as it is read."""
        return f"{self.kind.python} | None" if self.is_optional else self.kind.python

    @property
    def column(self) -> str:
        """The argument of `mapped_column`; empty if the type alone is enough."""
        return "KEY_TEXT" if self.is_unique and self.kind.python == "str" else self.kind.column

    def made(self, row_id: str) -> str:
        """Return the factory's expression for its value; `row_id` is the name of the variable with the row's id."""
        return self.kind.key.format(name=self.name, id=row_id) if self.is_unique else self.kind.default

    def alias(self, model: str) -> str:
        """Return the name of its type on the wire, as it is accepted: `BookmarkUrl`, or `bool`."""
        return f"{model}{camel(self.name)}" if self.kind.bounds else self.kind.python

    def accepted(self, model: str) -> str:
        """Return its type on the wire, as it is accepted: `BookmarkUrl | None`."""
        return f"{self.alias(model)} | None" if self.is_optional else self.alias(model)


def parse(text: str) -> list[Field]:
    """Read the fields.

    One field may be unique per owner: the one with `!`, else the first `str` that is not optional.

    Raises:
        Refused: with the reason, if a text is no field.
    """
    fields = [_field(each) for each in _split(text)]
    if not fields:
        raise Refused('name at least one field, as in fields="url:str title:str? tags:list[str]"')
    if len(fields) > MOST_FIELDS:
        raise Refused(f"{len(fields)} fields are too many: begin with up to {MOST_FIELDS}, add the others by hand")
    names = [field.name for field in fields]
    if twice := [name for name in names if names.count(name) > 1]:
        raise Refused(f"{twice[0]}: two fields have this name")
    if len([field for field in fields if field.is_unique]) > 1:
        raise Refused("one field can be unique per owner: mark one with `!`")
    return _with_one_unique(fields)


def _split(text: str) -> list[str]:
    """Return the fields of a text, which any blanks separate: `list[ str ]` is one."""
    return re.sub(r"\s+(?=[\]\[:?!])|(?<=[\[:])\s+", "", text).split()


def _field(text: str) -> Field:
    found = _FIELD.fullmatch(text)
    if found is None:
        raise Refused(f"{text}: write a field as name:type, with `?` behind it if it may be null, as in title:str?")
    name, kind, marks = found["name"], found["kind"], found["marks"]
    _check_name(name)
    if kind not in KINDS:
        raise Refused(f"{text}: there is no type {kind or 'without a name'}; choose of {', '.join(KINDS)}")
    if len(set(marks)) < len(marks):
        raise Refused(f"{text}: write `?` or `!` once")
    field = Field(name, KINDS[kind], is_optional="?" in marks, is_unique="!" in marks)
    if field.is_unique and not field.kind.key:
        able = ", ".join(word for word, each in KINDS.items() if each.key)
        raise Refused(f"{text}: `!` goes with {able}")
    if field.kind.bounds and name in _SCHEMAS:
        raise Refused(f"{text}: the schemas use the name {name}; choose another")
    return field


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise Refused(f"{name!r} cannot name a field: use up to {LONGEST_NAME} of a-z, 0-9 and single `_`")
    if name in _OWN:
        raise Refused(f"{name}: each feature has this column already")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or hasattr(builtins, name):
        raise Refused(f"{name}: Python uses this word; choose another, such as {name}_name")
    if name in _USED or hasattr(BaseModel, name) or hasattr(Base, name) or name.startswith("model_"):
        raise Refused(f"{name}: the code around a field uses this word; choose another, such as own_{name}")


def _with_one_unique(fields: Sequence[Field]) -> list[Field]:
    if not any(field.is_unique for field in fields):
        for place, field in enumerate(fields):
            if field.kind is KINDS["str"] and not field.is_optional:
                return [*fields[:place], replace(field, is_unique=True), *fields[place + 1 :]]
    return list(fields)
