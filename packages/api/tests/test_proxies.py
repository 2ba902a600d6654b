"""The address of a client behind proxies, and the answer to a client that asks too often."""

from dataclasses import asdict
from ipaddress import ip_network
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from app_api.dependencies import AuthDep, ClientDep
from app_api.forwarding import hops_of
from app_api.metrics import Metrics
from app_api.proxies import EVERYBODY, client_address
from app_api.settings import ApiSettings, HttpSettings
from app_api.testing import assert_problem, open_client
from app_auth.limits import ThrottleSettings
from app_auth.testing import new_key
from packages.api.tests.conftest import app_of

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def settings_with(settings: ApiSettings, **changed: object) -> ApiSettings:
    return ApiSettings.model_validate(settings.model_dump() | changed)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.7, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.7,203.0.113.9 ,\t10.9.9.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.7", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.1"),
        ("fd00::1", ["2001:DB8::0:1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("fe80::1%eth0", ["203.0.113.9"], "fe80::1"),
        ("10.0.0.1", ["203.0.113.9:1024"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.7:9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.7:1", "203.0.113.9:65535,[fd00::2]:80"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:80"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:DB8::1%eth0]:80"], "2001:db8::1"),
        ("10.0.0.1", ["[::ffff:203.0.113.9]:80"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, [::ffff:10.0.0.7]"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9:_hidden"], "203.0.113.9"),
        (None, ["203.0.113.9"], None),
        ("a socket", ["203.0.113.9"], None),
    ],
)
def test_the_last_address_that_is_not_ours_counts(peer: str | None, forwarded: list[str], address: str | None) -> None:
    """RFC 7239, 6 and 6.1: a node may have a port; Azure's Application Gateway writes it into X-Forwarded-For."""
    assert client_address(peer, forwarded, trusted=PROXIES) == address


@pytest.mark.parametrize(
    "absurd",
    [
        *["", "unknown", "_hidden", "203.0.113.300", "1", "é", "a, ", "203.0.113.9:", "203.0.113.9:x"],
        *["203.0.113.9:123456", "[203.0.113.9]", "203.0.113.9%eth0", "[2001:db8::1", "2001:db8::1]", "[]:80", ":80"],
    ],
)
def test_what_is_no_address_counts_as_absent(absurd: str) -> None:
    assert client_address("10.0.0.1", [f"198.51.100.7, {absurd}"], trusted=PROXIES) == "10.0.0.1"


FORWARDED = [
    (["for=203.0.113.9"], "203.0.113.9"),
    (["For=203.0.113.9;proto=https;by=10.0.0.2"], "203.0.113.9"),
    (['proto=https ; for="203.0.113.9:1024"'], "203.0.113.9"),
    (['for=198.51.100.7, for="[2001:db8::1]:4711"'], "2001:db8::1"),
    (["for=203.0.113.9", "for=10.0.0.7;by=10.0.0.8", 'for="[fd00::2]:80"'], "203.0.113.9"),
    (['by="for=198.51.100.7";for="203.0.113.\\9"'], "203.0.113.9"),
    (['for="a,b", for=203.0.113.9'], "203.0.113.9"),
    (['for="198.51.100.7', "for=203.0.113.9"], "203.0.113.9"),
    (['for=198.51.100.7, for="a,b"'], "10.0.0.1"),
    (["for=198.51.100.7", "for=unknown"], "10.0.0.1"),
    (["for=198.51.100.7", "proto=https"], "10.0.0.1"),
    (["for=198.51.100.7;for=203.0.113.9"], "10.0.0.1"),
    (["for=198.51.100.7, for 203.0.113.9"], "10.0.0.1"),
    (['for=198.51.100.7, for="203.0.113.9'], "10.0.0.1"),
    (["for=198.51.100.7, for=" + '"' + "," * 20 + '"'], "10.0.0.1"),
    ([], "10.0.0.1"),
]


@pytest.mark.parametrize(("lines", "address"), FORWARDED)
def test_a_proxy_may_write_forwarded_instead(lines: list[str], address: str) -> None:
    """RFC 7239, 4: pairs joined by ";" and hops by ",", quoted or not; over several lines it is one list."""
    assert client_address("10.0.0.1", [], forwarded=lines, trusted=PROXIES) == address


@pytest.mark.parametrize(
    ("line", "hops"),
    [
        ("for=10.0.0.1, for=10.0.0.2", ["10.0.0.2", "10.0.0.1"]),
        ("for 10.0.0.1, for=10.0.0.2", ["10.0.0.2", ""]),
        ('for=10.0.0.1, for="' + "," * 20 + '"', [""]),
    ],
)
def test_the_way_ends_where_it_cannot_be_read(line: str, hops: list[str]) -> None:
    """RFC 7239, 4: left of a hop that cannot be parsed, a client may have written everything."""
    assert list(hops_of([], [line])) == hops


def test_forwarded_is_not_read_where_a_proxy_writes_x_forwarded_for() -> None:
    address = client_address("10.0.0.1", ["203.0.113.9"], forwarded=["for=198.51.100.7"], trusted=PROXIES)

    assert address == "203.0.113.9"


@given(st.lists(st.text(), max_size=3))
def test_nothing_before_the_element_of_our_proxy_changes_how_it_is_read(lines: list[str]) -> None:
    """A quote that a client opens must not swallow the element that the proxy appends."""
    for forwarded in ([*lines, "for=203.0.113.9"], [",".join([*lines, 'for="203.0.113.9:80"'])]):
        assert client_address("10.0.0.1", [], forwarded=forwarded, trusted=PROXIES) == "203.0.113.9"


@given(st.lists(st.text()))
def test_nothing_that_a_stranger_says_changes_their_address(forwarded: list[str]) -> None:
    assert client_address("192.0.2.1", forwarded, trusted=PROXIES) == "192.0.2.1"


@given(st.lists(st.text()))
def test_nothing_before_the_word_of_our_proxy_changes_the_address(forwarded: list[str]) -> None:
    assert client_address("10.0.0.1", [*forwarded, "203.0.113.9"], trusted=PROXIES) == "203.0.113.9"


def test_a_star_trusts_everybody() -> None:
    assert HttpSettings.model_validate({"trusted_proxies": ["*"]}).trusted_proxies == EVERYBODY


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "proxy.example.test", "", "10.0.0.0/8 "])
def test_what_is_no_network_is_not_trusted(network: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        HttpSettings.model_validate({"trusted_proxies": [network]})


@pytest.mark.parametrize("networks", [["*"], ["10.0.0.0/8", "0.0.0.0/0"], ["::/0"]])
def test_production_trusts_some_proxies(api_settings: ApiSettings, networks: list[str]) -> None:
    with pytest.raises(ValidationError, match="APP_HTTP__TRUSTED_PROXIES"):
        settings_with(api_settings, env="production", http={"trusted_proxies": networks})


@pytest.fixture
def echo(api_settings: ApiSettings) -> FastAPI:
    """Return an application behind a proxy at 127.0.0.1 with a route that returns its client."""
    app = app_of(settings_with(api_settings, http={"trusted_proxies": ["127.0.0.0/8"]}))

    @app.get("/whoami")
    async def whoami(client: ClientDep) -> dict[str, Any]:
        return asdict(client)

    return app


async def test_a_handler_knows_who_asks(echo: FastAPI) -> None:
    headers = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9", "User-Agent": "curl/8", "X-Request-ID": "r-1"}

    async with open_client(echo) as client:
        response = await client.get("/whoami", headers=headers)

    assert response.json() == {"address": "203.0.113.9", "user_agent": "curl/8", "request_id": "r-1"}


@pytest.mark.parametrize(("sent", "kept"), [(b"x" * 300, "x" * 256), (b"a\tb\x85c\xff", "abc\xff"), (b"", None)])
async def test_an_agent_is_cut_to_what_can_be_shown(echo: FastAPI, sent: bytes, kept: str | None) -> None:
    async with open_client(echo) as client:
        response = await client.get("/whoami", headers=[(b"User-Agent", sent)])

    assert response.json()["user_agent"] == kept


async def test_a_handler_knows_who_asks_from_forwarded(echo: FastAPI) -> None:
    async with open_client(echo) as client:
        response = await client.get("/whoami", headers={"Forwarded": 'for=10.0.0.1, for="[2001:db8::1]:80"'})

    assert response.json()["address"] == "2001:db8::1"


def unnamed(app: FastAPI) -> float | None:
    (metrics,) = [layer.kwargs["metrics"] for layer in app.user_middleware if "metrics" in layer.kwargs]
    assert isinstance(metrics, Metrics)
    return metrics.registry.get_sample_value("app_http_proxy_unnamed_clients_total")


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-For": "unknown"}, {"Forwarded": "proto=https"}])
async def test_a_trusted_proxy_that_names_nobody_is_one_warning_and_a_figure(
    echo: FastAPI, headers: dict[str, str]
) -> None:
    with capture_logs() as logs:
        async with open_client(echo) as client:
            await client.get("/probe/live")  # a balancer asks that for itself
            for _ in range(3):
                await client.get("/whoami", headers=headers)

    warnings = [event for event in logs if event["event"] == "proxy_names_no_client"]
    assert warnings == [{"event": "proxy_names_no_client", "log_level": "warning", "proxy": "127.0.0.1"}]
    assert unnamed(echo) == 3


async def test_a_proxy_that_names_its_clients_is_not_warned_of(echo: FastAPI) -> None:
    with capture_logs() as logs:
        async with open_client(echo) as client:
            await client.get("/whoami", headers={"X-Forwarded-For": "203.0.113.9"})
            await client.get("/whoami", headers={"X-Forwarded-For": "127.0.0.7:80"})
            await client.get("/whoami")

    assert "proxy_names_no_client" not in [event["event"] for event in logs]
    assert unnamed(echo) == 1


class UnixSocket:
    """Middleware that takes the address of the peer away, as a Unix socket has none."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "client": None}, receive, send)


async def test_a_request_from_nowhere_has_no_address(echo: FastAPI) -> None:
    echo.add_middleware(UnixSocket)

    async with open_client(echo) as client:
        response = await client.get("/whoami", headers={"X-Forwarded-For": "203.0.113.9"})

    assert response.json()["address"] is None


@pytest.fixture
def strict_settings(api_settings: ApiSettings) -> ApiSettings:
    """Allow one registration an hour; the pepper separates the counters of this test."""
    auth = api_settings.auth.model_copy(update={"peppers": (new_key(),)})
    return settings_with(api_settings, auth=auth, throttle=ThrottleSettings(register_ip="1/h"))


@pytest.fixture
def strict(strict_settings: ApiSettings) -> FastAPI:
    return strict_app(strict_settings)


def strict_app(settings: ApiSettings) -> FastAPI:
    """Return an application with a route that does nothing and counts as a registration."""
    app = app_of(settings)

    @app.post("/nothing")
    async def nothing(client: ClientDep, auth: AuthDep) -> None:
        await auth.throttle.register(client)

    return app


async def test_who_is_throttled_is_told_for_how_long(strict: FastAPI) -> None:
    async with open_client(strict) as client:
        await client.post("/nothing")
        response = await client.post("/nothing")

    assert_problem(response, 429, "too_many_requests")
    assert response.headers["Retry-After"] == "300"


async def test_two_applications_count_together(strict_settings: ApiSettings) -> None:
    apps = [strict_app(strict_settings) for _ in range(2)]

    async with open_client(apps[0]) as one, open_client(apps[1]) as other:
        answers = [(await client.post("/nothing")).status_code for client in (one, other)]

    assert answers == [200, 429]


async def test_an_address_that_is_made_up_changes_no_limit(strict: FastAPI) -> None:
    async with open_client(strict) as client:
        headers = [{"X-Forwarded-For": f"203.0.113.{number}"} for number in range(2)]
        answers = [(await client.post("/nothing", headers=each)).status_code for each in headers]

    assert answers == [200, 429]
