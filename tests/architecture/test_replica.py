"""Reads on a standby may be stale: no route authenticates by them, or shows a client its own writes by them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app_api.app import ROUTERS
from app_api.dependencies import SAFE_METHODS, ReplicaSessionDep, SessionDep, get_replica_session, get_session

ROOT = Path(__file__).parents[2]
ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
KNOW_OF_IT = {"engine.py", "settings.py", "dependencies.py", "replication.py"}

planted = APIRouter()


@planted.post("/jobs")
async def writes(session: ReplicaSessionDep) -> None:
    """A write shows that the client will read what it wrote."""


@planted.get("/auth/me")
async def authenticates(session: ReplicaSessionDep) -> None:
    """The standby may not have a new session yet."""


@planted.get("/probe/ready")
async def probes(session: ReplicaSessionDep) -> None:
    """A probe has to ask the primary."""


@planted.get("/jobs")
async def reads_both(session: SessionDep, stale: ReplicaSessionDep) -> None:
    """Two connections, and two states of one database."""


def calls_of(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for dependency in dependant.dependencies:
        yield from calls_of(dependency)


def must_not_be_stale(route: APIRoute) -> bool:
    """Whether a route reads on a standby although it must not."""
    calls, reads = set(calls_of(route.dependant)), SAFE_METHODS.issuperset(route.methods or ())
    elsewhere = not route.path.startswith(("/auth", "/probe"))
    return get_replica_session in calls and not (reads and elsewhere and get_session not in calls)


def test_no_route_reads_on_a_standby_what_must_not_be_stale() -> None:
    assert [route.path for route in ROUTES if must_not_be_stale(route)] == []


@pytest.mark.parametrize("route", planted.routes, ids=lambda route: route.name)
def test_a_stale_read_where_it_must_not_be_is_found(route: APIRoute) -> None:
    assert must_not_be_stale(route)


def test_no_rule_of_accounts_or_jobs_reads_on_a_standby() -> None:
    sources = [(path.name, path.read_text()) for path in ROOT.glob("packages/*/src/**/*.py")]

    assert {name for name, source in sources if "replica_" in source or "stale=" in source} == KNOW_OF_IT
