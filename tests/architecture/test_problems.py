"""Every failure that a package can name has a status, a code of its own, and a place in the API's description."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

import app_api
import app_auth
import app_db
from app_api.app import ROUTERS
from app_api.dependencies import get_bearer, get_session
from app_api.problems import MEDIA_TYPE, STATUS_BY_ERROR, status_of
from app_db.errors import AppError

ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
# Probes answer machines, which look at the status alone; what is well known asks nothing that could be refused.
HANDLERS = [route for route in ROUTES if not route.path.startswith(("/probe/", "/.well-known/"))]


def errors_below(error: type[AppError]) -> Iterator[type[AppError]]:
    for child in error.__subclasses__():
        yield child
        yield from errors_below(child)


def all_errors() -> list[type[AppError]]:
    """Return every error of the packages that a request can meet."""
    for package in (app_db, app_auth, app_api):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return [error for error in errors_below(AppError) if error.__module__.startswith("app_")]


def calls_of(dependant: Dependant) -> Iterator[object]:
    """Yield every function that FastAPI calls for a handler."""
    yield dependant.call
    for dependency in dependant.dependencies:
        yield from calls_of(dependency)


def declared_statuses(route: APIRoute) -> set[int]:
    return {int(status) for status, response in route.responses.items() if MEDIA_TYPE in response.get("content", {})}


def test_every_error_has_a_status() -> None:
    without = [error.__name__ for error in all_errors() if not set(error.__mro__) & set(STATUS_BY_ERROR)]

    assert without == []


def test_every_error_says_what_happened() -> None:
    silent = [error.__name__ for error in all_errors() if not (error.__doc__ or "").strip()]

    assert silent == []


def test_errors_with_one_code_have_one_status() -> None:
    statuses: dict[str, set[int]] = {}
    for error in all_errors():
        statuses.setdefault(error.code, set()).add(status_of(error))

    assert {code: found for code, found in statuses.items() if len(found) > 1} == {}


@pytest.mark.parametrize("route", HANDLERS, ids=lambda route: route.name)
def test_every_handler_declares_its_problems(route: APIRoute) -> None:
    calls = set(calls_of(route.dependant))
    expected = {401 for call in calls if call is get_bearer} | {503 for call in calls if call is get_session}

    assert expected <= declared_statuses(route)
    assert declared_statuses(route)


def test_the_handlers_are_found() -> None:
    assert {"register_new_user", "read_current_user", "read_job"} <= {route.name for route in HANDLERS}
