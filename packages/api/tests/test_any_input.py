"""For any input to any route, the answer is one that the route declares, and never a 500."""

import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from httpx2 import AsyncClient, Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app_api.app import ROUTERS
from app_api.testing import SignedIn
from app_auth.testing import PASSWORD, MakeAccount, SignIn
from app_db.models import Role

pytestmark = pytest.mark.integration

type Headers = Callable[[], Awaitable[dict[str, str]]]
type Json = Mapping[str, Any]  # Any: of an OpenAPI description

ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
OPERATIONS = sorted((method, route.path_format) for route in ROUTES for method in route.methods or ())
WITH_BODY = sorted(
    (method, route.path_format) for route in ROUTES if route.body_field for method in route.methods or ()
)
BEFORE_ANY_ROUTE = {HTTPStatus.BAD_REQUEST, HTTPStatus.CONTENT_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
"""The statuses of the guards in front of all routes."""
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
SIGNS_OUT = {("POST", "/auth/logout"), ("POST", "/auth/sessions/revoke-all"), ("DELETE", "/auth/me")}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
CONDITIONS = (b"Range", b"If-Range", b"If-None-Match", b"If-Modified-Since", b"Accept-Encoding", b"Content-Type")
"""The header fields that servers of files read."""
OF_A_PAGE = {200, 206, 303, 304, 403, 404, 405, 416, 422, *BEFORE_ANY_ROUTE}
BYTES: Any = {"errors": "surrogatepass"}  # half a surrogate pair becomes bytes that are no UTF-8

FEW = 15
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", FEW))
many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == FEW,  # the few are the same in every run
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.text(st.characters(), max_size=20)  # surrogates and NUL included
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.emails()
media_types = st.sampled_from((JSON, FORM, "multipart/form-data; boundary=b", "text/plain", ""))
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8)


below = st.sampled_from(("", "/", "/swagger-ui.css", "/swagger.js")) | texts.map(lambda text: f"/{segment(text)}")
conditions = st.text('bytes=0123456789-, */"GMTÿ', max_size=20).map(lambda text: text.encode("latin-1"))


class Shapes:
    """Strategies for values that a description allows, and, with `junk`, for values that only look like them."""

    def __init__(self, description: Json, *, known: Sequence[str]) -> None:
        self._schemas: Json = description["components"]["schemas"]
        self._known = st.sampled_from(known)

    def of(self, schema: Json, *, junk: bool) -> st.SearchStrategy[Any]:
        """Return a strategy for the values of a JSON schema."""
        if "$ref" in schema:
            return self.of(self._schemas[schema["$ref"].rpartition("/")[2]], junk=junk)
        if "anyOf" in schema:
            return st.one_of([self.of(each, junk=junk) for each in schema["anyOf"]])
        proper = self._proper(schema, junk=junk)
        return proper | values if junk else proper

    def _proper(self, schema: Json, *, junk: bool) -> st.SearchStrategy[Any]:
        if "enum" in schema or "const" in schema:
            return st.sampled_from(schema.get("enum") or [schema["const"]])
        if schema.get("type") == "array":
            return st.lists(self.of(schema["items"], junk=junk), max_size=3)
        if schema.get("type") == "object":
            fields = {name: self.of(field, junk=junk) for name, field in schema.get("properties", {}).items()}
            required = {} if junk else {name: fields.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(required, optional=fields)
        return self._known | plain(schema) if schema.get("type") == "string" else plain(schema)


def plain(schema: Json) -> st.SearchStrategy[Any]:
    """Return a strategy for values that are neither lists nor objects."""
    by_name = {
        "string": texts,
        "integer": st.integers(schema.get("minimum"), schema.get("maximum")),
        "boolean": st.booleans(),
        "null": st.none(),
        "email": st.emails(),
        "uuid": st.uuids().map(str),
        "date-time": st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
    }
    return by_name.get(schema.get("format", schema.get("type", "")), values)


def segment(text: str) -> str:
    """Return a text as one segment of a path: an empty one, a dot or a slash would lead to another route."""
    return quote(text.replace("/", "").strip(".") or "-", safe="", **BYTES)


@dataclass(frozen=True)
class Operation:
    """One route as the description has it, and requests for it."""

    method: str
    path: str
    described: Json
    shapes: Shapes

    def declares(self, response: Response) -> bool:
        return response.status_code in BEFORE_ANY_ROUTE or str(response.status_code) in self.described["responses"]

    def target(self, data: st.DataObject, *, junk: bool) -> str:
        path, query = self.path, {}
        for parameter in self.described.get("parameters", ()):
            name, value = (
                parameter["name"],
                data.draw(self.shapes.of(parameter["schema"], junk=junk), parameter["name"]),
            )
            if parameter["in"] == "query" and value is not None:
                query[name] = str(value)
            path = path.replace(f"{{{name}}}", segment(str(value)))
        return f"{path}?{urlencode(query, **BYTES)}"

    def body(self, data: st.DataObject, *, junk: bool) -> tuple[bytes, str]:
        """Return a body and its media type."""
        for media_type, content in self.described.get("requestBody", {}).get("content", {}).items():
            value = data.draw(self.shapes.of(content["schema"], junk=junk), "body")
            if media_type == JSON:
                return json.dumps(value).encode(), media_type
            fields = {str(name): str(each) for name, each in value.items()} if isinstance(value, dict) else {}
            return urlencode(fields, **BYTES).encode(), media_type
        return b"", ""


@pytest.fixture(params=OPERATIONS, ids=" ".join)
def operation(request: pytest.FixtureRequest, app: FastAPI, operator: SignedIn) -> Operation:
    """Each operation of the API."""
    method, path = request.param
    description = app.openapi()
    known = (operator.account.email, PASSWORD, operator.tokens.refresh_token)
    return Operation(method, path, description["paths"][path][method.lower()], Shapes(description, known=known))


@pytest.fixture
def pages(app: FastAPI) -> list[str]:
    """The paths of all routes that are not described: pages, and the files that they load."""
    there = {context.path or "" for context in iter_route_contexts(app.routes)}
    described = app.openapi()["paths"].keys()
    return sorted(path for path in there if path.replace(":path}", "}") not in described)


@pytest.fixture
def headers(operation: Operation, operator: SignedIn, make_account: MakeAccount, sign_in: SignIn) -> Headers:
    """Return a function that gives the headers of an operator who is signed in."""

    async def headers() -> dict[str, str]:
        if (operation.method, operation.path) not in SIGNS_OUT:
            return operator.headers
        account = await make_account(role=Role.OPERATOR)
        return SignedIn(account, await sign_in(account)).headers

    return headers


@many
@given(data=st.data())
async def test_a_route_answers_as_it_declares_whatever_fits_it(
    client: AsyncClient, operation: Operation, headers: Headers, data: st.DataObject
) -> None:
    junk = data.draw(st.booleans(), "junk")
    content, media_type = operation.body(data, junk=junk)
    target = operation.target(data, junk=junk)

    response = await client.request(
        operation.method, target, content=content, headers={**await headers(), "Content-Type": media_type}
    )

    assert operation.declares(response), response.text


@many
@given(data=st.data())
async def test_a_page_answers_whatever_is_asked_of_it(
    client: AsyncClient, pages: list[str], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(pages)) + data.draw(below)
    query = urlencode(data.draw(st.dictionaries(texts, texts, max_size=2)), **BYTES)

    response = await client.request(
        data.draw(st.sampled_from(METHODS)),
        f"{path}?{query}",
        content=data.draw(st.binary(max_size=200)),
        headers=data.draw(st.dictionaries(st.sampled_from(CONDITIONS), conditions)),
    )

    assert response.status_code in OF_A_PAGE, response.text


@pytest.mark.parametrize("operation", WITH_BODY, ids=" ".join, indirect=True)
@many
@given(content=st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()), media_type=media_types)
async def test_a_route_answers_as_it_declares_whatever_the_bytes(
    client: AsyncClient, operation: Operation, operator: SignedIn, content: bytes, media_type: str
) -> None:
    headers = {**operator.headers, "Content-Type": media_type}

    response = await client.request(operation.method, operation.path, content=content, headers=headers)

    assert operation.declares(response), response.text


@many
@given(token=st.binary(max_size=200))
async def test_no_authorization_is_a_fault_of_ours(client: AsyncClient, token: bytes) -> None:
    response = await client.get("/auth/me", headers=[(b"Authorization", b"Bearer " + token)])

    assert response.status_code == 401
