"""A key opens what asks for one of its scopes, and nothing else: all routes are tried."""

from collections.abc import AsyncIterator, Collection
from uuid import UUID

import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.security.base import SecurityBase
from httpx2 import AsyncClient
from sqlalchemy import select

from app_api.app import ROUTERS, create_app
from app_api.lifespan import State
from app_api.scopes import SCHEME, CallerDep, Scoped, scoped_routes, scopes_of
from app_api.settings import ApiSettings
from app_api.testing import SignedIn, assert_problem, open_client
from app_auth.machines import Machine, MachineKeys
from app_db import Database, Session
from app_db.models import AuditEvent, Role
from app_db.types import new_id, utcnow

ALL = ("account:export", "jobs:read", "jobs:write")
ROUTES = [
    (method, context.path or "")
    for router in ROUTERS
    for context in iter_route_contexts(router.routes)
    if isinstance(context.original_route, APIRoute)
    for method in context.methods or ()
]


def reads_credentials(dependant: Dependant) -> bool:
    """Return whether a route looks at the Authorization header; those for strangers do not."""
    call: object = dependant.call
    return isinstance(call, SecurityBase) or any(map(reads_credentials, dependant.dependencies))


OPEN = {
    (method, context.path or "")
    for router in ROUTERS
    for context in iter_route_contexts(router.routes)
    if isinstance(context.original_route, APIRoute) and not reads_credentials(context.dependant)
    for method in context.methods or ()
}


class AnyKey(MachineKeys):
    """Takes every key for one of an account that it knows, with all scopes."""

    def __init__(self, user_id: UUID) -> None:
        self.user_id = user_id
        self.scopes = frozenset(ALL)

    async def recognise(self, *_: object, **__: object) -> Machine:
        return Machine(self.user_id, "ada@example.test", Role.USER, new_id(), "ci", self.scopes, utcnow())

    async def alive(self, session: Session, key_ids: Collection[UUID]) -> Collection[UUID]:
        return key_ids


@pytest_asyncio.fixture(loop_scope="session")
async def keys(state: State, signed_in: SignedIn) -> AsyncIterator[AnyKey]:
    """Keys of the account that is signed in."""
    keys = AnyKey(signed_in.account.id)
    opened = state["resources"]
    state["resources"] = {**opened, MachineKeys: keys}
    yield keys
    state["resources"] = opened


KEY = {"Authorization": "Bearer gw_any"}


def target(path: str) -> str:
    return "/".join(str(new_id()) if part.startswith("{") else part for part in path.split("/"))


def test_the_list_of_scopes_is_closed() -> None:
    assert scopes_of(ROUTERS) == ALL


def test_the_routes_that_accept_keys_are_these() -> None:
    accepting = {(method, path): scope for router in ROUTERS for method, path, scope in scoped_routes(router.routes)}

    assert accepting == {
        ("GET", "/auth/me"): None,
        ("POST", "/auth/me/export"): "account:export",
        ("GET", "/auth/me/exports/{job_id}"): "account:export",
        ("GET", "/jobs"): "jobs:read",
        ("GET", "/jobs/{job_id}"): "jobs:read",
        ("GET", "/jobs/{job_id}/events"): "jobs:read",
        ("GET", "/jobs/batches"): "jobs:read",
        ("GET", "/jobs/batches/{batch_id}"): "jobs:read",
        ("GET", "/jobs/batches/{batch_id}/jobs"): "jobs:read",
        ("POST", "/jobs/batches/{batch_id}/cancel"): "jobs:write",
        ("POST", "/jobs/{job_id}/cancel"): "jobs:write",
    }


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[" ".join(route) for route in ROUTES])
async def test_a_key_opens_no_route_that_does_not_ask_for_a_scope(
    client: AsyncClient, keys: AnyKey, method: str, path: str
) -> None:
    scopes = {(verb, one): scope for router in ROUTERS for verb, one, scope in scoped_routes(router.routes)}

    with_all = await client.request(method, target(path), headers=KEY, json={} if method in {"POST", "PATCH"} else None)
    keys.scopes = frozenset(ALL) - {scopes.get((method, path))}
    without = await client.request(method, target(path), headers=KEY, json={} if method in {"POST", "PATCH"} else None)

    if (method, path) in OPEN:
        assert with_all.status_code not in {201, 202, 204, 500}
    elif (scope := scopes.get((method, path), "none")) is None:
        assert with_all.status_code == without.status_code == 200
    elif scope == "none":
        refused = (401, "invalid_token") if path == "/auth/logout" else (403, "key_not_accepted")
        assert_problem(with_all, *refused)
        assert with_all.headers["WWW-Authenticate"].startswith("Bearer error=")
    else:
        assert with_all.status_code in {200, 202, 404}
        assert assert_problem(without, 403, "insufficient_scope")["required_scope"] == scope
        assert without.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{scope}"'


async def test_a_key_without_the_scope_is_refused(client: AsyncClient, keys: AnyKey) -> None:
    keys.scopes = frozenset({"jobs:write"})

    assert_problem(await client.get("/jobs", headers=KEY), 403, "insufficient_scope")


@pytest.mark.usefixtures("keys")
async def test_the_jobs_of_everybody_are_for_no_key(client: AsyncClient) -> None:
    assert_problem(await client.get("/jobs?all=true", headers=KEY), 403, "operator_required")


@pytest.mark.usefixtures("keys")
async def test_the_audit_says_that_a_key_asked_for_the_export(
    client: AsyncClient, signed_in: SignedIn, database: Database
) -> None:
    assert (await client.post("/auth/me/export", headers=KEY)).status_code == 202
    assert (await client.post("/auth/me/export", headers=signed_in.headers)).status_code == 202

    async with database.unit_of_work(read_only=True) as session:
        asked = select(AuditEvent).where(AuditEvent.event == "export_requested").order_by(AuditEvent.id)
        by_key, by_person = await session.scalars(asked)
    assert (by_key.session_id, list(by_key.details)) == (None, ["key"])
    assert by_person.session_id is not None
    assert by_person.details == {}


async def test_without_the_feature_no_key_is_accepted(client: AsyncClient, state: State) -> None:
    opened = state["resources"]
    state["resources"] = {kind: one for kind, one in opened.items() if kind is not MachineKeys}

    response = await client.get("/auth/me", headers=KEY)

    state["resources"] = opened
    assert_problem(response, 401, "invalid_token")


@pytest.mark.usefixtures("keys")
async def test_a_key_is_no_cookie_and_no_query_parameter(client: AsyncClient) -> None:
    cookie = await client.get("/jobs", headers={"Cookie": "__Host-console=gw_any; Authorization=Bearer gw_any"})
    query = await client.get("/jobs?access_token=gw_any")

    assert_problem(cookie, 401, "not_authenticated")
    assert_problem(query, 401, "not_authenticated")


async def test_a_route_of_an_application_chooses_who_opens_it(api_settings: ApiSettings, signed_in: SignedIn) -> None:
    app = create_app(api_settings)

    @app.get("/pets")
    async def list_pets(caller: CallerDep) -> str:
        return caller.email

    async with open_client(app) as client:
        assert (await client.get("/pets", headers=signed_in.headers)).json() == signed_in.account.email
        assert_problem(await client.get("/pets"), 401, "not_authenticated")


@pytest.mark.parametrize("scope", ["", "pets", "pets:", "*", "pets:read pets:write", "Pets:read"])
def test_what_looks_like_no_scope_is_refused(scope: str) -> None:
    with pytest.raises(ValueError, match='looks like "pets:read"'):
        Scoped(scope)


def test_the_description_says_which_routes_accept_keys(app: FastAPI) -> None:
    assert app.openapi() is app.openapi()
    description = app.openapi()

    assert description["components"]["securitySchemes"][SCHEME]["scheme"] == "bearer"
    assert {SCHEME: ["jobs:read"]} in description["paths"]["/jobs"]["get"]["security"]
    assert {SCHEME: []} in description["paths"]["/auth/me"]["get"]["security"]
    assert all(SCHEME not in way for way in description["paths"]["/auth/sessions"]["get"]["security"])
