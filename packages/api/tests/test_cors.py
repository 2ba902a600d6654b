"""Answers that pages of other origins can read: of routes, of refusals, of faults and to preflights."""

import asyncio
from threading import Event

import pytest
from fastapi import FastAPI, Response
from httpx2 import ASGITransport, AsyncClient

from app_api.http_names import METHODS, RESPONSE_HEADERS
from app_api.settings import ApiSettings
from app_api.testing import assert_problem, open_client
from packages.api.tests.conftest import app_of

ORIGIN = "https://app.example.test"


@pytest.fixture
def cors_settings(api_settings: ApiSettings) -> ApiSettings:
    return ApiSettings.model_validate(api_settings.model_dump() | {"http": {"cors_origins": [ORIGIN]}})


@pytest.fixture
def cors_app(cors_settings: ApiSettings) -> FastAPI:
    return app_of(cors_settings)


def assert_readable(headers: object) -> None:
    assert isinstance(headers, dict)
    assert headers["access-control-allow-origin"] == ORIGIN
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["access-control-expose-headers"] == ", ".join(RESPONSE_HEADERS)
    assert headers["vary"] == "Origin"


async def test_a_fault_of_ours_can_be_read_by_a_page_that_may_ask(cors_app: FastAPI) -> None:
    """Starlette 1.10 answers a fault outside of its CORS layer: the page would see a failed fetch, and no id."""

    @cors_app.get("/boom")
    async def boom() -> None:
        raise RuntimeError

    async with open_client(cors_app) as client:
        response = await client.get("/boom", headers={"Origin": ORIGIN})

    assert_problem(response, 500, "internal_error")
    assert_readable(dict(response.headers))


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/probe/live", {"Host": "evil.test"}, 400),
        ("GET", "/auth/me", {}, 401),
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/auth/me", {}, 405),
        ("POST", "/auth/register", {"Content-Length": "999999999"}, 413),
        ("POST", "/auth/register", {"Content-Type": "text/plain"}, 415),
        ("OPTIONS", "/auth/me", {}, 405),
    ],
)
async def test_every_refusal_can_be_read_by_a_page_that_may_ask(
    cors_app: FastAPI, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    content = b"x" if method == "POST" else b""

    async with open_client(cors_app) as client:
        response = await client.request(method, path, headers={"Origin": ORIGIN, **headers}, content=content)

    assert response.status_code == status
    assert_readable(dict(response.headers))


async def test_what_the_end_cuts_off_can_be_read_by_a_page_that_may_ask(cors_settings: ApiSettings) -> None:
    stopping, begun = Event(), asyncio.Event()
    app = app_of(cors_settings, stopping=stopping)

    @app.get("/slow")
    async def slow() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as client:
        asking = asyncio.create_task(client.get("/slow", headers={"Origin": ORIGIN}))
        await begun.wait()
        stopping.set()
        asking.cancel()
        response = await asking

    assert_problem(response, 503, "timeout")
    assert_readable(dict(response.headers))


async def test_what_depends_on_something_else_too_says_both(cors_app: FastAPI) -> None:
    @cors_app.get("/varies")
    async def varies(response: Response) -> None:
        response.headers["Vary"] = "Accept-Language"

    async with open_client(cors_app) as client:
        response = await client.get("/varies")

    assert response.headers.get_list("Vary") == ["Accept-Language", "Origin"]
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fields", ["traceparent", "tracestate, baggage", "authorization,content-type, x-request-id"])
async def test_a_preflight_for_what_routes_take_is_granted(cors_app: FastAPI, method: str, fields: str) -> None:
    """W3C Trace Context, 4: pages that trace send `traceparent` with each request; Fetch asks for it first."""
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": fields}

    async with open_client(cors_app) as client:
        response = await client.options("/auth/me", headers=asked)

    assert response.status_code == 200
    assert method in response.headers["Access-Control-Allow-Methods"].split(", ")
    assert response.headers.get_list("Access-Control-Allow-Origin") == [ORIGIN]


@pytest.mark.parametrize("lines", [[""], [" , "], ["content-type,"], ["authorization", "content-type"]])
async def test_the_fields_that_a_preflight_names_are_a_list(cors_app: FastAPI, lines: list[str]) -> None:
    """RFC 9110, 5.3 and 5.6.1: on several lines, and with empty elements (whatwg/fetch #459, asm89/stack-cors #30)."""
    asked = [("Origin", ORIGIN), ("Access-Control-Request-Method", "GET")]

    async with open_client(cors_app) as client:
        fields = [("Access-Control-Request-Headers", line) for line in lines]
        granted = await client.options("/auth/me", headers=[*asked, *fields])
        refused = await client.options(
            "/auth/me", headers=[*asked, *fields, ("Access-Control-Request-Headers", "x-other")]
        )

    assert granted.status_code == 200
    assert_problem(refused, 400, "cors_refused")


async def test_a_preflight_that_asks_for_a_private_network_too_is_answered(cors_app: FastAPI) -> None:
    """The browser decides (Private Network Access, 3.1.2), and may only warn; a 400 fails (Kludex/starlette #3065)."""
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Private-Network": "true"}

    async with open_client(cors_app) as client:
        response = await client.options("/auth/me", headers=asked)

    assert response.status_code == 200
    assert "Access-Control-Allow-Private-Network" not in response.headers


async def test_a_preflight_for_another_host_is_refused_readably(cors_app: FastAPI) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET", "Host": "evil.test"}

    async with open_client(cors_app) as client:
        response = await client.options("/auth/me", headers=asked)

    assert_problem(response, 400, "invalid_host")
    assert_readable(dict(response.headers))
