"""Write docs/reference/configuration.md from the settings classes; `--check` only compares."""

import argparse
import ast
import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from textwrap import dedent
from types import UnionType
from typing import Any, Final, Literal, TypeAliasType, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import AnyHttpUrl, BaseModel, SecretStr
from pydantic.fields import FieldInfo

from app_api.feature_settings import ALL_SETTINGS
from app_runtime.configuration import Variable, variables
from app_runtime.fragments import with_fragments
from app_worker.resources import FEATURES
from app_worker.settings import WorkerSettings

PAGE: Final = Path(__file__).parents[1] / "docs/reference/configuration.md"
INTRODUCTION: Final = """\
# Configuration

Every setting of the applications, written by `make reference` from the classes that read them. `.env.example` has
those that no feature brings, to copy from; [operations](../how-to/operations.md) says what to set where.

- **Durations** are seconds (`2.5`) or ISO 8601 (`PT2.5S`, `P14D`); lists are JSON.
- **Any value** may come from a file: `NAME_FILE=/run/secrets/name`, or lines `NAME=value` in the file that
  `APP_SECRETS_FILE` names. Variables come first.
- **Unknown names are refused**, and in production unsafe values ([ADR-0043](../decisions/0043-configuration.md)).
  `python -m app_api config check` shows what is in force.
- **Read by**: API and worker ignore each other's settings, so all may be given the same. Migrations read only
  `APP_DATABASE__…`.
"""
APPLICATIONS: Final[dict[str, type[BaseModel]]] = {
    "api": ALL_SETTINGS,
    "worker": with_fragments(WorkerSettings, FEATURES),
}
TYPES: Final[dict[Any, str]] = {  # Any: types, and objects that mypy takes for none
    timedelta: "duration", bool: "`on` or `off`", int: "number", float: "number", str: "text", SecretStr: "secret",
    AnyHttpUrl: "URL", Path: "path", tuple: "JSON list",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A setting as one application reads it."""

    application: str
    name: str
    kind: str
    default: str
    meaning: str


def rows(application: str, model: type[BaseModel]) -> Iterator[Row]:
    """Yield the settings of an application."""
    for variable in variables(model):
        owner, field = _field(model, variable)
        kind = f"{_kind(field.annotation)}{_bounds(field)}"
        yield Row(application, variable.name, kind, _default(field), _meanings(owner).get(variable.attributes[-1], ""))


def _field(model: type[BaseModel], variable: Variable) -> tuple[type[BaseModel], FieldInfo]:
    """Return the class that declares a setting, and its field."""
    owner = model
    for attribute in variable.attributes[:-1]:
        annotation = owner.model_fields[attribute].annotation
        assert isinstance(annotation, type)
        owner = annotation
    return owner, owner.model_fields[variable.attributes[-1]]


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings below the fields of a class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        if "__firstlineno__" not in vars(base):
            continue  # pydantic made the class that joins an application's settings with those of features
        (definition,) = ast.parse(dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for above, below in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(above, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(above.target, ast.Name):
                found[above.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def _kind(annotation: Any) -> str:  # Any: the annotation of a field
    if isinstance(annotation, TypeAliasType):
        return "secret URL" if annotation.__name__.endswith("Url") else _kind(annotation.__value__)
    if get_origin(annotation) in {Union, UnionType}:
        return _kind(next(part for part in get_args(annotation) if part is not type(None)))
    if hasattr(annotation, "__metadata__"):
        return _kind(annotation.__origin__)
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    return TYPES[get_origin(annotation) or annotation]


def _bounds(field: FieldInfo) -> str:
    lowest = [f", from {_plain(limit.ge)}" for limit in field.metadata if isinstance(limit, Ge)]
    above = [f", above {_plain(limit.gt)}" for limit in field.metadata if isinstance(limit, Gt)]
    highest = [f" up to {_plain(limit.le)}" for limit in field.metadata if isinstance(limit, Le)]
    return "".join([*lowest, *above, *highest])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.default
    return "" if value is None or value in {"", ()} else f"`{_plain(value)}`"


def _plain(value: Any) -> str:  # Any: a value of a setting
    match value:
        case timedelta(days=days) if days:
            return f"P{days}D"
        case timedelta():
            return f"{value.total_seconds():g}"
        case SecretStr():
            return value.get_secret_value()
        case bool():
            return "on" if value else "off"
        case tuple():
            return json.dumps(value)
        case _:
            return str(value)


def page() -> str:
    """Return the text of the page."""
    settings: dict[str, list[Row]] = {}
    for application, model in APPLICATIONS.items():
        for row in rows(application, model):
            settings.setdefault(row.name, []).append(row)
    lines = [INTRODUCTION]
    for section, names in groupby(sorted(settings, key=_section), key=_section):
        lines.append(f"\n## {f'`{section}__…`' if section else 'Everywhere'}\n")
        lines.append("| variable | type | default | read by | meaning |\n| --- | --- | --- | --- | --- |")
        lines.extend(f"| `{name}` | {' | '.join(_cells(settings[name]))} |" for name in names)
    return "\n".join(lines) + "\n"


def _section(name: str) -> str:
    return name.rpartition("__")[0]


def _cells(readers: list[Row]) -> Iterator[str]:
    """Yield the cells after the name; if applications differ, the cell names each."""
    for texts in ([row.kind for row in readers], [row.default for row in readers]):
        same = len(set(texts)) == 1
        each = (f"{row.application}: {text}" for row, text in zip(readers, texts, strict=True))
        yield texts[0] if same else ", ".join(each)
    yield ", ".join(row.application for row in readers)
    yield " ".join(dict.fromkeys(row.meaning for row in readers)).replace("|", "\\|")


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the page is not as it would be written")
    if parser.parse_args(None if arguments is None else [*arguments]).check:
        return int(PAGE.read_text() != page())
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
