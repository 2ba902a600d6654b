"""Refuses query parameters that a route does not have, or that are given twice, and names them.

With a misspelt filter ignored, a route would list everything.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin
from urllib.parse import parse_qsl

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.security.base import SecurityBase
from pydantic import BaseModel
from starlette.routing import BaseRoute
from starlette.types import Scope

from app_api.problems import FieldProblem, InvalidText, ValidationFailed

MOST_NAMED: Final = 20
MOST_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True)
class QueryRule:
    """The query parameters of a route."""

    methods: AbstractSet[str]
    path: re.Pattern[str]
    once: frozenset[str]
    often: frozenset[str]
    """Lists: given once for each entry."""
    secured: bool
    """Whether a request without credentials is refused anyway."""


class QueryGuard:
    """Refuses unknown query parameters of routes; pages accept any, because links to them gather parameters."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._rules = [*_rules(routes)]

    def check(self, scope: Scope, *, authorized: bool) -> None:
        """Check the query of one request; `authorized` is whether it brings credentials of whatever kind.

        Raises:
            InvalidText: it is not escaped UTF-8: parsers keep, drop or replace such bytes, which changes the filter.
            ValidationFailed: with each name that is not known here, or is given more than once.
        """
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        matching = (rule for rule in self._rules if method in rule.methods and rule.path.match(scope["path"]))
        rule = next(matching, None)
        if rule is None or (rule.secured and not authorized):  # the answer is a 404, 405 or 401 anyway
            return
        try:
            pairs = parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise InvalidText from None  # guard: test_a_query_that_is_no_utf_8_is_refused
        names = [name for name, _ in pairs]
        if fields := [*_problems(names, rule)]:
            raise ValidationFailed(errors=fields[:MOST_NAMED])


def _problems(names: Sequence[str], rule: QueryRule) -> Iterator[FieldProblem]:
    known = rule.once | rule.often
    for name in dict.fromkeys(names):
        pointer = f"query/{name[:MOST_CHARACTERS].replace('~', '~0').replace('/', '~1')}"
        if name not in known:
            there_are = f"there are: {', '.join(sorted(known))}" if known else "there are none"
            detail = f"There is no parameter of this name here; {there_are}."
            yield FieldProblem(pointer=pointer, code="unknown_parameter", detail=detail)
        elif name in rule.once and names.count(name) > 1:
            yield FieldProblem(pointer=pointer, code="repeated_parameter", detail="Give this parameter once.")


def _rules(routes: Sequence[BaseRoute]) -> Iterator[QueryRule]:
    for context in iter_route_contexts(routes):
        if isinstance(context.original_route, APIRoute) and context.include_in_schema:
            dependants = [*_with_dependencies(context.dependant)]
            names = [*names_of(field for each in dependants for field in each.query_params)]
            yield QueryRule(
                context.methods or set(),
                context.path_regex,
                frozenset(name for name, is_list in names if not is_list),
                frozenset(name for name, is_list in names if is_list),
                any(isinstance(each.call, SecurityBase) for each in dependants),
            )


def _with_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for dependency in dependant.dependencies:
        yield from _with_dependencies(dependency)


def names_of(fields: Iterable[Any]) -> Iterator[tuple[str, bool]]:  # Any: FastAPI's fields have no public type
    """Yield the name of each parameter, and whether it is a list, which is given once for each entry."""
    for field in fields:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):  # each field is a parameter
            for name, part in annotation.model_fields.items():
                yield str(part.validation_alias or part.alias or name), _is_list(part.annotation)
        else:
            yield field.alias, _is_list(annotation)


def _is_list(annotation: Any) -> bool:  # Any: an annotation
    origin = get_origin(annotation)
    if origin in {Union, UnionType, Annotated}:
        return any(map(_is_list, get_args(annotation)))
    plain = origin or annotation
    return isinstance(plain, type) and issubclass(plain, Sequence | AbstractSet) and not issubclass(plain, str | bytes)
