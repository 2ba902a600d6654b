"""The metrics of the API."""

import asyncio
import json
import re
import time
from http.client import HTTPConnection

import pytest
from fastapi import APIRouter, FastAPI
from httpx2 import AsyncClient
from structlog.testing import capture_logs

from app_api.lifespan import State
from app_api.metrics import Metrics
from app_api.settings import ApiSettings, ConsoleSettings
from app_api.testing import SignedIn, open_client
from app_auth.errors import RefreshTokenUsed
from app_auth.passwords import HashFlaw
from app_runtime.telemetry.endpoint import MetricsSettings
from packages.api.tests.conftest import app_of


def metrics_of(app: FastAPI) -> Metrics:
    (found,) = [layer.kwargs["metrics"] for layer in app.user_middleware if "metrics" in layer.kwargs]
    assert isinstance(found, Metrics)
    return found


@pytest.fixture
def metrics(app: FastAPI) -> Metrics:
    return metrics_of(app)


def requests(metrics: Metrics, method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    return metrics.registry.get_sample_value("app_http_requests_total", labels) or 0


def errors(metrics: Metrics, error: str) -> float | None:
    return metrics.registry.get_sample_value("app_http_errors_total", {"error": error})


async def test_a_request_is_counted_by_its_route_and_status(
    client: AsyncClient, signed_in: SignedIn, metrics: Metrics
) -> None:
    (session,) = (await client.get("/auth/sessions", headers=signed_in.headers)).json()["items"]

    await client.delete(f"/auth/sessions/{session['id']}", headers=signed_in.headers)

    assert requests(metrics, "DELETE", "/auth/sessions/{session_id}", 204) == 1


async def test_how_long_a_request_took_is_counted_by_its_route(client: AsyncClient, metrics: Metrics) -> None:
    await client.get("/probe/live")

    labels = {"method": "GET", "route": "/probe/live"}
    assert metrics.registry.get_sample_value("app_http_request_seconds_count", labels) == 1


async def test_an_open_page_is_no_slow_request(api_settings: ApiSettings) -> None:
    app = app_of(api_settings.model_copy(update={"console": ConsoleSettings(enabled=False)}))
    app.add_api_route("/console/live", lambda: "closed")
    async with open_client(app) as client:
        await client.get("/console/live")

    registry, labels = metrics_of(app).registry, {"method": "GET", "route": "/console/live"}
    assert requests(metrics_of(app), "GET", "/console/live", 200) == 1
    assert not registry.get_sample_value("app_http_request_seconds_count", labels)


async def test_a_head_is_counted_under_its_route(client: AsyncClient, metrics: Metrics) -> None:
    await client.head("/probe/live")

    assert requests(metrics, "HEAD", "/probe/live", 200) == 1


def versioned(app: FastAPI) -> None:
    """Include one router twice, the second time within another one."""
    inner, outer = APIRouter(prefix="/pets"), APIRouter(prefix="/v2")

    @inner.get("/{name}")
    async def pet(name: str) -> str:
        if name == "broken":
            raise RuntimeError
        return name

    outer.include_router(inner, prefix="/in")
    app.include_router(inner, prefix="/v1")
    app.include_router(outer)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("path", "status"), [("rex", 200), ("broken", 500)])
async def test_a_router_that_is_included_twice_is_two_routes(
    app: FastAPI, client: AsyncClient, metrics: Metrics, method: str, path: str, status: int
) -> None:
    """FastAPI 0.165: `scope["route"].path` knows no prefix of its includes; the route's context does."""
    versioned(app)

    with capture_logs() as logs:
        await client.request(method, f"/v1/pets/{path}")
        await client.request(method, f"/v2/in/pets/{path}")

    routes = [event["route"] for event in logs if event["event"] == "request_finished"]
    assert routes == ["/v1/pets/{name}", "/v2/in/pets/{name}"]
    assert [requests(metrics, method, route, status) for route in routes] == [1, 1]


async def test_another_method_is_counted_under_the_route_with_its_prefix(
    app: FastAPI, client: AsyncClient, metrics: Metrics
) -> None:
    versioned(app)

    await client.post("/v1/pets/rex")

    assert requests(metrics, "POST", "/v1/pets/{name}", 405) == 1


async def test_paths_that_nothing_is_at_share_one_label(client: AsyncClient, metrics: Metrics) -> None:
    await client.get("/wp-admin")
    await client.get("/.git/config")

    assert requests(metrics, "GET", "none", 404) == 2


async def test_methods_that_clients_make_up_share_one_label(client: AsyncClient, metrics: Metrics) -> None:
    await client.request("BREW", "/probe/live")
    await client.request("STIR", "/probe/live")

    assert requests(metrics, "other", "/probe/live", 405) == 2


async def test_a_fault_of_ours_is_counted_as_one(client: AsyncClient, app: FastAPI, metrics: Metrics) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError

    with capture_logs():
        await client.get("/broken")

    assert requests(metrics, "GET", "/broken", 500) == 1


async def test_a_request_is_in_flight_until_it_is_answered(client: AsyncClient, app: FastAPI, metrics: Metrics) -> None:
    seen = []

    @app.get("/look")
    async def look() -> None:
        seen.append(metrics.registry.get_sample_value("app_http_requests_in_flight"))

    await client.get("/look")

    assert seen == [1]
    assert metrics.registry.get_sample_value("app_http_requests_in_flight") == 0


async def test_a_wrong_password_is_counted(client: AsyncClient, metrics: Metrics) -> None:
    await client.post("/auth/access-token", data={"username": "ada@example.test", "password": "not hers"})

    assert errors(metrics, "invalid_credentials") == 1


def test_a_refresh_token_that_is_reused_is_told_from_one_that_is_wrong(metrics: Metrics) -> None:
    metrics.refused(RefreshTokenUsed)

    assert errors(metrics, "refresh_token_used") == 1
    assert errors(metrics, "refresh_token_not_found") == 0


async def test_a_request_that_is_refused_before_any_route_is_counted(client: AsyncClient, metrics: Metrics) -> None:
    await client.get("/probe/live", headers={"Host": "example.org"})

    assert errors(metrics, "invalid_host") == 1


@pytest.mark.parametrize(
    "name", ["app_password_hashes_waiting", "app_throttle_valkey_outages_total", "app_password_hash_threads"]
)
async def test_what_signing_in_depends_on_is_shown(state: State, metrics: Metrics, name: str) -> None:
    assert metrics.registry.get_sample_value(name) is not None


@pytest.mark.parametrize("flaw", HashFlaw)
async def test_hashes_that_no_password_can_match_are_counted_from_zero_on(
    state: State, metrics: Metrics, flaw: HashFlaw
) -> None:
    state["auth"].passwords.flaws[flaw] += 1
    before = metrics.registry.get_sample_value("app_password_hash_flaws_total", {"flaw": flaw})

    assert before == 1


async def test_an_api_says_what_it_is_made_of(state: State, metrics: Metrics) -> None:
    assert metrics.registry.get_sample_value("app_build_info", {"package": "app-auth", "version": "0.1.0"}) == 1


async def test_an_api_without_shared_limits_has_lost_no_valkey(
    client: AsyncClient, state: State, metrics: Metrics
) -> None:
    state["auth"].throttle.shared = None

    assert metrics.registry.get_sample_value("app_throttle_valkey_outages_total") == 0


async def test_the_api_shows_its_figures_on_a_port_of_their_own(api_settings: ApiSettings) -> None:
    settings = api_settings.model_copy(update={"metrics": MetricsSettings(enabled=True, port=0)})

    with capture_logs() as logs:
        async with open_client(app_of(settings)) as client:
            await client.get("/probe/live")
            (port,) = [event["port"] for event in logs if event["event"] == "telemetry_started"]
            text = get(port, "/metrics")  # without `await`: the answer does not need the loop
            health = json.loads(get(port, "/health"))
            public = await client.get("/metrics")

    assert 'app_http_requests_total{method="GET",route="/probe/live",status="200"} 1.0' in text
    assert health.pop("loop_lag_seconds") >= 0
    assert health == {"status": "ok", "requests": 0, "stopping": False}
    assert public.status_code == 404


async def test_an_api_whose_loop_is_blocked_says_so_on_that_port(api_settings: ApiSettings) -> None:
    settings = api_settings.model_copy(update={"metrics": MetricsSettings(enabled=True, port=0)})
    app = app_of(settings)
    metrics = metrics_of(app)

    with capture_logs() as logs:
        async with open_client(app):
            (port,) = [event["port"] for event in logs if event["event"] == "telemetry_started"]
            metrics.loop.tick_at = time.monotonic() - 5
            health = json.loads(get(port, "/health"))  # without `await`: nothing else in this loop can run
            text = get(port, "/metrics")

    assert (health["status"], health["detail"]) == (503, "The event loop is blocked.")
    assert re.search(r"^app_http_loop_lag_seconds 4\.", text, re.MULTILINE)


async def test_an_api_shows_whether_what_it_depends_on_is_there(api_settings: ApiSettings) -> None:
    settings = api_settings.model_copy(update={"metrics": MetricsSettings(enabled=True, port=0)})
    app = app_of(settings)
    metrics = metrics_of(app)

    async with open_client(app), asyncio.timeout(45):
        while not metrics.dependencies:  # noqa: ASYNC110  # a task of the application sets it
            await asyncio.sleep(0.01)

    def is_up(dependency: str) -> float | None:
        return metrics.registry.get_sample_value("app_dependency_up", {"dependency": dependency})

    assert (is_up("database"), is_up("valkey")) == (1, 1)


def get(port: int, path: str) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()
