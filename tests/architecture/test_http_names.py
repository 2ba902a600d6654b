"""One list of methods, header fields and times for routes, CORS and the proxies in front of the API."""

import json
import math
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import AnyHttpUrl

from app_api.app import ROUTERS
from app_api.http_names import METHODS, REQUEST_HEADERS, RESPONSE_HEADERS
from app_api.settings import HttpSettings

ROOT = Path(__file__).parents[2]
PROXY = (ROOT / "deploy" / "haproxy.cfg").read_text()
SAFE = {"accept", "accept-language", "content-language", "content-type"}


def routes() -> list[Any]:
    found = [context for router in ROUTERS for context in iter_route_contexts(router.routes)]
    return [context for context in found if isinstance(context.original_route, APIRoute)]


def test_routes_offer_methods_of_the_list() -> None:
    assert {method for route in routes() for method in route.methods or ()} <= {*METHODS}


def test_routes_read_header_fields_of_the_list() -> None:
    asked = {field.alias.lower() for route in routes() for field in route.dependant.header_params}

    assert asked <= SAFE | {name.lower() for name in REQUEST_HEADERS}


def test_the_proxy_names_the_same_methods_and_fields() -> None:
    (allowed,) = {*re.findall(r'hdr Allow "([^"]*)"', PROXY)}
    (exposed,) = {*re.findall(r'Access-Control-Expose-Headers "([^"]*)"', PROXY)}

    assert allowed == ", ".join(METHODS)
    assert exposed == ", ".join(RESPONSE_HEADERS)


ERRORS = sorted((ROOT / "deploy" / "haproxy-errors").iterdir())
OWN_PROBLEMS = [json.loads(text) for text in re.findall(r"lf-string '(\{.*?\})'", PROXY)]


@pytest.mark.parametrize("file", ERRORS, ids=lambda file: file.name)
def test_a_file_of_the_proxy_says_what_its_rule_says_but_no_id(file: Path) -> None:
    head, _, body = file.read_text().partition("\n\n")
    problem = json.loads(body)

    assert f'http-error status {file.stem} errorfile "${{PROXY_ERRORS}}/{file.name}"' in PROXY
    assert head.startswith(f"HTTP/1.1 {file.stem} {problem['title']}\nContent-Type: application/problem+json\n")
    assert "Access-Control-Allow-Origin: *" in head.splitlines()  # WHATWG Fetch, 3.3.4: for requests without cookies
    assert problem["status"] == int(file.stem)
    same = [{**each, "request_id": None} for each in OWN_PROBLEMS if each["status"] == problem["status"]]
    assert all(each == {**problem, "request_id": None} for each in same)


def seconds(pattern: str) -> float:
    (found,) = {*re.findall(pattern, PROXY)}
    return float(found)


def longest_idle_of_the_proxy() -> timedelta:
    """Return how long HAProxy keeps an idle connection to the API at most: it closes half of them after each delay."""
    most = int(seconds(r"default-server .* maxconn (\d+)"))
    return timedelta(seconds=seconds(r"pool-purge-delay (\d+)s") * (math.ceil(math.log2(most)) + 2))


SHIPPED = {
    "idle connections of the proxy": longest_idle_of_the_proxy(),
    "a client of the proxy between two requests": timedelta(seconds=seconds(r"timeout http-keep-alive (\d+)s")),
    # https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive_timeout, as ingress-nginx has it, too
    "nginx": timedelta(seconds=60),
}


@pytest.mark.parametrize("front", SHIPPED.values(), ids=SHIPPED)
def test_what_stands_in_front_gives_up_an_idle_connection_first(front: timedelta) -> None:
    """RFC 9112, 9.3.1: a server that closes first loses the request that is on its way."""
    assert front < HttpSettings().keep_alive


def test_no_shipped_environment_has_another_time() -> None:
    shipped = [ROOT / "compose.yaml", *(ROOT / "deploy").rglob("*.yaml"), *(ROOT / "deploy").rglob("*.service")]

    assert not [path for path in shipped if "APP_HTTP__KEEP_ALIVE" in path.read_text()]


def test_the_proxy_waits_longer_than_the_api_works() -> None:
    http = HttpSettings()
    work = (http.body_timeout + http.request_timeout).total_seconds()

    assert seconds(r"timeout server (\d+)s") > work


def test_the_proxy_notices_a_stop_within_the_delay() -> None:
    inter, fall = re.findall(r"inter (\d+)s fall (\d+)", PROXY)[0]

    assert timedelta(seconds=int(inter) * int(fall)) < HttpSettings().drain_delay


def test_origins_are_as_browsers_send_them() -> None:
    http = HttpSettings(cors_origins=(AnyHttpUrl("HTTPS://APP.example.test:443/"),))

    assert http.origins == ("https://app.example.test",)
