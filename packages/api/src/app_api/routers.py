"""The routers of all features, from their `router.py` and `*_router.py`, in an order that hides no path."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from fastapi import APIRouter
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path

from app_runtime.discovery import FeatureError, feature_folders, find


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """A path with the methods that one function serves."""

    methods: frozenset[str]
    path: str
    shape: str
    """The path with a value for each of its parameters."""
    pattern: re.Pattern[str]
    place: str
    """The file of its router."""

    def hides(self, other: "Endpoint") -> bool:
        """Whether this one, if it came first, would take the requests for the other one."""
        return bool(self.methods & other.methods) and self.pattern.match(other.shape) is not None

    def __str__(self) -> str:
        return f"{'/'.join(sorted(self.methods))} {self.path} in {self.place}"


@dataclass(frozen=True, slots=True, eq=False)
class Routes:
    """A router with its endpoints."""

    router: APIRouter
    endpoints: tuple[Endpoint, ...]

    def hides(self, other: "Routes") -> bool:
        """Whether it has to come after the other one."""
        return any(endpoint.hides(hidden) for endpoint in self.endpoints for hidden in other.endpoints)


def found_routers(package: str) -> Iterator[tuple[str, APIRouter]]:
    """Yield the file of each router of the features, and its `router`.

    Raises:
        FeatureError: a folder has neither a router nor pages, or a file has no `router`.
    """
    places = [(found.path, vars(found.module).get("router")) for found in find(package, "*router")]
    for path, router in places:
        if not isinstance(router, APIRouter):
            raise FeatureError(f"{path}: it has no `router`: add `router = APIRouter(prefix=…, tags=…)`")
        yield path, router
    for folder in feature_folders(package):
        has_pages = any(folder.glob("*pages.py"))  # a feature may be pages of the console alone
        if not has_pages and not any(Path(path).parent == folder for path, _ in places):
            raise FeatureError(f"{folder}: add a `router.py` with `router = APIRouter(…)`, or remove the folder")


def in_order(routers: Iterable[tuple[str, APIRouter]]) -> tuple[APIRouter, ...]:
    """Sort the routers so that a fixed path is before a parameter that would match it: `/jobs/queues`, `/jobs/{id}`.

    Apart from that, they stay in their order.

    Raises:
        FeatureError: two endpoints are the same, or hide each other in any order.
    """
    waiting = [Routes(router, (*endpoints_of(router, place),)) for place, router in routers]
    _refuse_clashes(waiting)
    ordered: list[APIRouter] = []
    while waiting:
        for routes in waiting:
            if any(routes.hides(other) for other in waiting if other is not routes):
                continue  # guard: test_the_paths_of_operators_are_no_job_ids
            waiting.remove(routes)
            ordered.append(routes.router)
            break
        else:
            names = ", ".join(str(routes.endpoints[0]) for routes in waiting)
            raise FeatureError(f"these routers hide paths of each other in any order: {names}")
    return tuple(ordered)


def endpoints_of(router: APIRouter, place: str) -> Iterator[Endpoint]:
    """Yield the routes of a router, and of its nested routers."""
    for context in iter_route_contexts(router.routes):
        if context.methods and context.path is not None:
            shape = re.sub(r"\{\w+(:\w+)?\}", _value, context.path)
            pattern, _, _ = compile_path(context.path)
            yield Endpoint(frozenset(context.methods), context.path, shape, pattern, place)


def _value(parameter: re.Match[str]) -> str:
    """Return a value that no narrower parameter matches; for `:path`, it is slashes with nothing between them."""
    return "//" if parameter[1] == ":path" else f"{{{parameter[1] or ''}}}"


def _refuse_clashes(routers: Iterable[Routes]) -> None:
    everything = [endpoint for routes in routers for endpoint in routes.endpoints]
    for first, second in combinations(everything, 2):
        if first.shape == second.shape and first.methods & second.methods:
            raise FeatureError(f"{first} and {second} are the same: change the path of one of them")
    for routes in routers:
        for first, second in combinations(routes.endpoints, 2):
            if first.hides(second):
                raise FeatureError(f"{first} hides {second}: write the second one first")
