"""Names of hosts and origins that settings and requests may have."""

import json

import pytest
from httpx2 import AsyncClient
from pydantic import ValidationError

from app_api.host_names import Authority, read_allowed_host, read_authority
from app_api.settings import ApiSettings, HttpSettings
from app_api.testing import assert_problem, open_client
from packages.api.tests.conftest import app_of

NEVER = [
    *["api.example.com:443", "[::1]:80", "https://api.example.com", "api.example.com/", "*.example.com", "*api"],
    *["", " ", " api.example.com", "api.example.com ", "api example.com", "a\tb", "u@api.example.com", "a..b", "."],
    *["-api.example.com", "a" * 64, ".".join(["a" * 60] * 5), "xn--a", "api.example.com?x", "api#x", "a%41", "a\\b"],
]


@pytest.mark.parametrize("host", NEVER)
def test_a_host_that_no_request_can_name_is_refused(host: str) -> None:
    """RFC 9110, 7.2: a Host header is a name and a port, and only the name is compared."""
    with pytest.raises(ValidationError, match="allowed_hosts") as refused:
        HttpSettings.model_validate({"allowed_hosts": ["localhost", host]})

    assert not host.strip() or repr(host) not in refused.value.errors()[0]["msg"]


def test_a_list_without_a_host_is_refused() -> None:
    with pytest.raises(ValidationError, match="allowed_hosts"):
        HttpSettings.model_validate({"allowed_hosts": []})


SAME = [
    ("API.Example.COM", "api.example.com", ["api.example.com", "API.EXAMPLE.COM:443", "api.example.com."]),
    ("api.example.com.", "api.example.com", ["api.example.com"]),
    ("bücher.example", "xn--bcher-kva.example", ["xn--bcher-kva.example", "XN--BCHER-KVA.example:80"]),
    ("BÜCHER.example", "xn--bcher-kva.example", ["xn--bcher-kva.example"]),
    ("::1", "[::1]", ["[::1]", "[0:0:0:0:0:0:0:1]:8000", "[::0001]"]),
    ("[2001:DB8:0::1]", "[2001:db8::1]", ["[2001:db8::1]", "[2001:db8:0:0:0:0:0:1]"]),
    ("my_service", "my_service", []),
]


@pytest.mark.parametrize(("given", "name", "asked"), SAME)
async def test_names_are_compared_as_names(api_settings: ApiSettings, given: str, name: str, asked: list[str]) -> None:
    """RFC 4343 (case), RFC 5890 (A-labels), RFC 5952 (IPv6), RFC 1034, 3.1 (the final dot)."""
    http = {"allowed_hosts": [given]}
    app = app_of(ApiSettings.model_validate(api_settings.model_dump() | {"http": http}))

    assert HttpSettings.model_validate(http).allowed_hosts == (name,)
    async with open_client(app) as client:
        for host in asked:
            response = await client.get("/probe/live", headers={"Host": host})
            assert response.status_code == 200, host


@pytest.mark.parametrize("host", ["localhost:x", "localhost:65536", "local host", "[::g]", "[1.2.3.4]"])
async def test_what_is_no_host_is_refused(client: AsyncClient, host: str) -> None:
    response = await client.get("/probe/live", headers={"Host": host})

    assert_problem(response, 400, "invalid_host")


def test_an_empty_port_is_none() -> None:
    assert read_authority(b"localhost:") == Authority("localhost", None)


def test_what_is_shown_is_what_is_compared() -> None:
    assert read_allowed_host("Bücher.example") == "xn--bcher-kva.example"
    assert read_allowed_host("*") == "*"


NO_ORIGINS = [
    *["https://app.example.com/app", "https://app.example.com/?x=1", "https://app.example.com?", "https://a.test/#x"],
    *["https://ada@app.example.com", "https://:x@app.example.com", "https://*.example.com", "*", "null"],
    *["https://a..b", "app.example.com", "file:///x", "https://"],
]


@pytest.mark.parametrize("origin", NO_ORIGINS)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    """RFC 6454, 6.1: scheme, host and port."""
    with pytest.raises(ValidationError, match="cors_origins"):
        HttpSettings.model_validate({"cors_origins": [origin]})


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://app.example.com/", "https://app.example.com"),
        ("HTTPS://App.Example.com:443", "https://app.example.com"),
        ("http://app.example.com:80/", "http://app.example.com"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[0:0::1]:3000", "http://[::1]:3000"),
    ],
)
async def test_origins_are_compared_as_origins(api_settings: ApiSettings, given: str, sent: str) -> None:
    app = app_of(ApiSettings.model_validate(api_settings.model_dump() | {"http": {"cors_origins": [given]}}))

    async with open_client(app) as client:
        response = await client.get("/probe/live", headers={"Origin": sent})

    assert response.headers["Access-Control-Allow-Origin"] == sent


def test_a_wrapped_network_is_the_network_in_it() -> None:
    """Addresses are compared without their wrapper (RFC 4291, 2.5.5.2), so a wrapped network would match none."""
    http = HttpSettings.model_validate({"trusted_proxies": ["::ffff:10.0.0.0/104", "2001:db8::/32", "::/8"]})

    assert [str(network) for network in http.trusted_proxies] == ["10.0.0.0/8", "2001:db8::/32", "::/8"]


def test_settings_read_again_are_the_same() -> None:
    http = HttpSettings.model_validate({"allowed_hosts": ["::1", "bücher.example"], "cors_origins": ["https://a.test"]})

    assert HttpSettings.model_validate(json.loads(http.model_dump_json())) == http
