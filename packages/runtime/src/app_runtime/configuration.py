"""Reads each setting from a variable or from a file, never from both. Errors name the variable, not its value.

This module never reads `os.environ`: the main module of each application passes it in (ADR-0032).
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, TypeAliasType, Union, get_args, get_origin

from pydantic import AnyUrl, BaseModel, SecretStr, ValidationError

PREFIX = "APP_"
SECRETS_FILE = "APP_SECRETS_FILE"
"""Names a file of NAME=value lines, as `config init` writes one; a variable overrides the line of its name."""
BYTE_ORDER_MARK = "\ufeff"
"""Editors of Windows write it first; it is no part of the first line."""
NO_SETTINGS = frozenset({SECRETS_FILE, "APP_PG_BIN"})
"""Variables with the prefix that are no settings of an application."""


_URL = re.compile(r"(?P<scheme>[a-z+]+://)(?P<user>[^/?#@]*@)?(?P<place>[\w.:,\[\]-]*(/[^?#@]*)?)(\?[^@]*)?")


class Environment(StrEnum):
    """Production is the default: a forgotten variable must not switch a check off."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"
    TEST = "test"


class Misconfigured(Exception):
    """Why an application does not start: one line for each variable, without its value."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class ReadFrom:
    """In the annotation of a field: the variable that fills it, if its name is not that of its place.

    Example: `openid: Annotated[Providers, ReadFrom("APP_AUTH__PROVIDERS")]` in the settings of a feature.
    """

    variable: str


@dataclass(frozen=True, slots=True)
class Variable:
    """The variable that fills one field of a settings class."""

    name: str
    keys: tuple[str, ...]
    attributes: tuple[str, ...]
    is_json: bool


@dataclass(frozen=True, slots=True)
class Given:
    """The texts of variables, and the source of each, for people."""

    texts: Mapping[str, str]
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Effective:
    """A setting in effect, for people: without its secrets."""

    name: str
    text: str
    origin: str
    """Where it comes from: `variable`, the name of the variable that names its file, or `default`."""


def variables(
    model: type[BaseModel], *, keys: tuple[str, ...] = (), attributes: tuple[str, ...] = ()
) -> Iterator[Variable]:
    """Yield the variables of a settings class: `APP_HTTP__PORT` for its field `http.port`."""
    for attribute, field in model.model_fields.items():
        own_keys, own_attributes = (*keys, str(field.validation_alias or attribute)), (*attributes, attribute)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, keys=own_keys, attributes=own_attributes)
        else:
            named = [known.variable for known in field.metadata if isinstance(known, ReadFrom)]
            name = named[0] if named else PREFIX + "__".join(own_keys).upper()
            yield Variable(name, own_keys, own_attributes, is_json=_is_json(field.annotation))


def load[S: BaseModel](model: type[S], environ: Mapping[str, str], *, elsewhere: Collection[str] = ()) -> S:
    """Return the settings that the environment describes.

    `elsewhere` has prefixes of names that another application reads: both may share one file of settings.

    Raises:
        Misconfigured: with a line for each variable that is unknown, missing or wrong.
    """
    known = {variable.name: variable for variable in variables(model)}
    given = read(known, environ, elsewhere=elsewhere)
    wrong = {name: _unknown(name, known) for name in given.texts if name not in known}
    document: dict[str, Any] = {}
    for variable in known.values():
        place = document
        for key in variable.keys[:-1]:
            place = place.setdefault(key, {})  # also if nothing is given, so that errors name the missing fields
        if variable.name in given.texts:
            try:
                text = given.texts[variable.name]
                place[variable.keys[-1]] = json.loads(text) if variable.is_json else text
            except ValueError:
                wrong[variable.name] = f"{variable.name}: is not JSON"
    try:
        settings = model.model_validate(document)
        if not wrong:
            return settings
    except ValidationError as error:
        for problem in error.errors(include_input=False):
            name, line = _named(known, problem["loc"], problem["msg"])
            wrong.setdefault(name, line)
    raise Misconfigured(*wrong.values())


def hints(error: Misconfigured) -> list[str]:
    """Return hints for people on a command line: how to get an environment."""
    if "APP_DATABASE__URL: has to be set" not in error.lines:
        return []
    doors = "beside `make dev`, type `make jobs ARGS=…` or `make api ARGS=…`, which have all settings"
    return [f"{doors}; elsewhere set APP_DATABASE__URL and the others that .env.example lists"]


def read(known: Collection[str], environ: Mapping[str, str], *, elsewhere: Collection[str] = ()) -> Given:
    """Return the texts of all settings: from variables, from files that `<name>_FILE` names, from the file of secrets.

    An empty variable counts as not set: Compose files and templates write `NAME=` for values that are missing.

    Raises:
        Misconfigured: for a file that cannot be read, and for a name that is set in two ways.
    """
    own = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
    for name in [name for name, text in own.items() if _is_known(name, known) and not text.strip()]:
        del own[name]  # guard: test_what_is_empty_is_not_set
    texts, origins = dict(own), dict.fromkeys(own, "variable")
    if SECRETS_FILE in own:
        for name, text in lines_of(_content(SECRETS_FILE, own[SECRETS_FILE])).items():
            if name not in own and f"{name}_FILE" not in own:
                texts[name], origins[name] = text, SECRETS_FILE
    for name in [*texts]:
        target = name.removesuffix("_FILE")
        if target not in known and (name in NO_SETTINGS or name.startswith(tuple(elsewhere))):
            del texts[name]
        elif target != name and target in texts:
            raise Misconfigured(f"{target}: is set, and {name} too; one of them has to go")
        elif target != name and target in known:
            texts[target], origins[target] = _content(name, texts.pop(name)).strip(), name
    for name in [name for name, text in texts.items() if name in known and not text.strip()]:
        del texts[name], origins[name]
    return Given(texts, origins)


def _is_known(name: str, known: Collection[str]) -> bool:
    return name in known or name.removesuffix("_FILE") in known or name in NO_SETTINGS


def shown(settings: BaseModel, environ: Mapping[str, str], *, elsewhere: Collection[str] = ()) -> Iterator[str]:
    """Yield a line for each setting in effect: `NAME=value  # where it comes from`, without secrets."""
    origins = origins_of(type(settings), environ, elsewhere=elsewhere)
    return (f"{setting.name}={setting.text}  # {setting.origin}" for setting in in_effect(settings, origins))


def origins_of(
    model: type[BaseModel], environ: Mapping[str, str], *, elsewhere: Collection[str] = ()
) -> Mapping[str, str]:
    """Return where each setting that is given comes from, by the name of its variable.

    Raises:
        Misconfigured: as `load` does, for a file that cannot be read, and for a name that is set in two ways.
    """
    return read({variable.name for variable in variables(model)}, environ, elsewhere=elsewhere).origins


def in_effect(settings: BaseModel, origins: Mapping[str, str]) -> Iterator[Effective]:
    """Yield all settings in effect, in their order, without secrets; `origins` are those of `origins_of`."""
    everything: Any = settings.model_dump(mode="json")
    for variable in variables(type(settings)):
        value: Any = settings
        dumped = everything
        for attribute in variable.attributes:
            value, dumped = getattr(value, attribute), dumped[attribute]
        if isinstance(value, SecretStr):
            dumped = _without_secrets(value.get_secret_value())
        elif isinstance(value, AnyUrl) and value.password is not None:
            dumped = _without_secrets(str(value))
        text = dumped if isinstance(dumped, str) else json.dumps(dumped)
        yield Effective(variable.name, text, origins.get(variable.name, "default"))


def _without_secrets(url: str) -> str:
    """Return a URL without its credentials."""
    parts = _URL.fullmatch(url)
    # Any other text may hold the password anywhere: one with a slash in it looks like a path.
    return f"{parts['scheme']}{'…@' if parts['user'] else ''}{parts['place']}" if parts else "…"


def lines_of(text: str) -> dict[str, str]:
    """Return the NAME=value lines of a file, as a shell, systemd and Compose read them: without quotes around a value.

    Raises:
        Misconfigured: with the number of another line.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix(BYTE_ORDER_MARK).splitlines(), start=1):
        if (stripped := line.strip()) and not stripped.startswith("#"):
            name, equals, value = stripped.removeprefix("export ").partition("=")
            if not equals:
                raise Misconfigured(f"{SECRETS_FILE}: line {number} is not NAME=value")
            is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[name.strip()] = value[1:-1] if is_quoted else value
    return found


def _content(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # the path is not shown: it may be a secret that was put in the wrong place
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Misconfigured(f"{name}: the file cannot be read: {reason}") from None


def _unknown(name: str, known: Collection[str]) -> str:
    closest = get_close_matches(name, known, n=1, cutoff=0)
    return f"{name}: is no setting; the closest one is {closest[0]}"


def _named(known: Mapping[str, Variable], location: tuple[int | str, ...], message: str) -> tuple[str, str]:
    """Return the variable with the wrong value, and a line with the place in the value and the reason."""
    reason = message.removeprefix("Value error, ").replace("Field required", "has to be set")
    for variable in known.values():
        depth = len(variable.keys)
        if location[:depth] == variable.keys:
            place = "".join(f"{part}: " for part in location[depth:])
            return variable.name, f"{variable.name}: {place}{reason}"
    return reason, reason  # a rule about several variables


def _is_json(annotation: Any) -> bool:
    """Whether the text of a field of this type is JSON: true for lists, sets and mappings."""
    if isinstance(annotation, TypeAliasType):
        return _is_json(annotation.__value__)
    origin = get_origin(annotation)
    if origin in {Union, UnionType}:
        return any(_is_json(part) for part in get_args(annotation))
    if hasattr(annotation, "__metadata__"):
        return _is_json(annotation.__origin__)
    return (origin or annotation) in {tuple, list, set, frozenset, dict}
