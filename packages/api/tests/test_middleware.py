"""Request ids, security headers, hosts and cross-origin requests."""

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient

from app_api.settings import ApiSettings
from app_api.testing import assert_problem, open_client
from packages.api.tests.conftest import app_of

ORIGIN = "https://app.example.test"
SECURITY_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def with_http(settings: ApiSettings, **changed: object) -> ApiSettings:
    """Return the settings with other values of `APP_HTTP__…`."""
    return ApiSettings.model_validate(settings.model_dump() | {"http": changed})


@pytest.fixture
def cors_app(api_settings: ApiSettings) -> FastAPI:
    return app_of(with_http(api_settings, cors_origins=[f"{ORIGIN}/"]))


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 64])
async def test_a_request_id_of_the_client_is_kept(client: AsyncClient, given: str) -> None:
    response = await client.get("/probe/live", headers={"X-Request-ID": given})

    assert response.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "é", "<script>", "a/b", "a\nb"])
async def test_a_request_id_that_might_do_harm_is_replaced(client: AsyncClient, given: str) -> None:
    response = await client.get("/probe/live", headers=[(b"X-Request-ID", given.encode())])

    assert response.headers["X-Request-ID"] != given
    assert len(response.headers["X-Request-ID"]) == 32


async def test_every_request_has_an_id_of_its_own(client: AsyncClient) -> None:
    ids = {(await client.get("/probe/live")).headers["X-Request-ID"] for _ in range(3)}

    assert len(ids) == 3


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/probe/live", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/auth/me", 401),
        ("GET", "/nowhere", 404),
        ("PUT", "/auth/me", 405),
        ("POST", "/auth/register", 422),
        ("GET", "/boom", 500),
    ],
)
async def test_every_answer_tells_browsers_to_keep_their_hands_off(
    app: FastAPI, client: AsyncClient, method: str, path: str, status: int
) -> None:
    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError

    response = await client.request(method, path)

    assert response.status_code == status
    assert {name: response.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert not {"server", "strict-transport-security"} & set(response.headers)


async def test_a_refused_host_is_told_the_same(client: AsyncClient) -> None:
    response = await client.get("/probe/live", headers={"Host": "evil.test"})

    assert {name: response.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


async def test_a_page_may_have_a_policy_of_its_own(client: AsyncClient) -> None:
    page = await client.get("/")

    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert len(page.headers.get_list("Content-Security-Policy")) == 1
    assert page.headers["X-Content-Type-Options"] == "nosniff"


async def test_behind_https_browsers_are_told_to_stay_there(api_settings: ApiSettings) -> None:
    async with open_client(app_of(with_http(api_settings, https=True))) as client:
        response = await client.get("/nowhere")

    assert response.headers["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost:8000", "127.0.0.1", "127.0.0.1:1"])
async def test_our_own_hosts_are_answered(client: AsyncClient, host: str) -> None:
    response = await client.get("/probe/live", headers={"Host": host})

    assert response.status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.test", "", "localhost.evil.test", "evil.test:80", "localhost.", "[::1]", "[", "::1", "*", "evil@localhost"],
)
async def test_another_host_is_refused(client: AsyncClient, host: str) -> None:
    response = await client.get("/probe/live", headers={"Host": host})

    assert assert_problem(response, 400, "invalid_host")["detail"] == "Invalid host header"


async def test_forwarded_hosts_are_not_looked_at(client: AsyncClient) -> None:
    response = await client.get("/probe/live", headers={"Host": "evil.test", "X-Forwarded-Host": "localhost"})

    assert_problem(response, 400, "invalid_host")


@pytest.mark.parametrize("other", ["localhost", "evil.test", ""])
async def test_two_hosts_are_refused(client: AsyncClient, other: str) -> None:
    response = await client.get("/probe/live", headers=[("Host", "localhost"), ("Host", other)])

    assert_problem(response, 400, "invalid_host")


@pytest.mark.parametrize("host", ["api.example.test", "[::1]", "[::1]:8000"])
async def test_hosts_are_set_by_whoever_runs_it(api_settings: ApiSettings, host: str) -> None:
    settings = with_http(api_settings, allowed_hosts=["API.example.test", "[::1]"])

    async with open_client(app_of(settings)) as client:
        response = await client.get("/probe/live", headers={"Host": host})

    assert response.status_code == 200


async def test_any_host_may_be_allowed_outside_of_production(api_settings: ApiSettings) -> None:
    async with open_client(app_of(with_http(api_settings, allowed_hosts=["*"]))) as client:
        response = await client.get("/probe/live", headers={"Host": "anything.test"})

    assert response.status_code == 200


@pytest.mark.parametrize("origin", [ORIGIN, "https://evil.test", "null"])
async def test_without_origins_no_other_site_may_read_us(client: AsyncClient, origin: str) -> None:
    response = await client.get("/probe/live", headers={"Origin": origin})

    assert not [name for name in response.headers if name.startswith("access-control-")]


async def test_an_allowed_origin_may_read_us(cors_app: FastAPI) -> None:
    async with open_client(cors_app) as client:
        response = await client.get("/probe/live", headers={"Origin": ORIGIN})

    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert response.headers["Access-Control-Allow-Credentials"] == "true"


@pytest.mark.parametrize(
    "origin", ["https://evil.test", "null", f"{ORIGIN}.evil.test", f"{ORIGIN}:444", "http://app.example.test"]
)
async def test_another_origin_may_not_read_us(cors_app: FastAPI, origin: str) -> None:
    async with open_client(cors_app) as client:
        response = await client.get("/probe/live", headers={"Origin": origin})

    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_a_preflight_of_an_allowed_origin_is_granted(cors_app: FastAPI, method: str) -> None:
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization, content-type, x-request-id",
    }

    async with open_client(cors_app) as client:
        response = await client.options("/auth/me", headers=asked)

    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize(
    ("asked", "detail"),
    [
        ({"Origin": "https://evil.test"}, "Disallowed CORS origin"),
        ({"Origin": "null"}, "Disallowed CORS origin"),
        ({"Access-Control-Request-Method": "TRACE"}, "Disallowed CORS method"),
        ({"Access-Control-Request-Headers": "x-evil"}, "Disallowed CORS headers"),
    ],
)
async def test_another_preflight_is_refused_with_a_problem(
    cors_app: FastAPI, asked: dict[str, str], detail: str
) -> None:
    good = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}

    async with open_client(cors_app) as client:
        response = await client.options("/auth/me", headers=good | asked)

    assert assert_problem(response, 400, "cors_refused")["detail"] == detail


async def test_a_problem_can_be_read_by_an_allowed_origin(cors_app: FastAPI) -> None:
    async with open_client(cors_app) as client:
        response = await client.post("/auth/register", json={}, headers={"Origin": ORIGIN})

    assert_problem(response, 422, "validation_failed")
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
