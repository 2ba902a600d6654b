"""What holds for every page of the console: where forms come from, headers, errors, what operators alone see."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from app_api.console.found import PageModule, found_pages
from app_api.settings import ApiSettings, ConsoleSettings
from app_api.testing import open_client
from app_runtime.configuration import Environment
from packages.api.tests.conftest import OUR_FORM, Browser, app_of

SAFE = {"GET", "HEAD"}
NO_ID = str(UUID(int=1))
STYLE = f"/console/assets/{NO_ID}/{NO_ID}"


def routes_of(app: FastAPI, *, below: str = "/console") -> Iterator[tuple[str, str]]:
    """Yield method and path of each route of the console, with a value for each parameter."""
    for context in iter_route_contexts(app.routes):
        path = context.path or ""
        if path == below or path.startswith(f"{below}/"):
            for method in sorted(context.methods or ()):
                yield method, filled(path)


def filled(path: str) -> str:
    """Return the path with a value for each parameter."""
    return "/".join(NO_ID if part[:1] == "{" else part for part in path.split("/"))


def paths(module: PageModule) -> list[APIRoute]:
    """Return the routes of a module."""
    return [route for route in module.router.routes if isinstance(route, APIRoute)]


FOREIGN: list[dict[str, str]] = [
    {},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://localhost"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example"},
    {"Origin": "https://localhost:8001"},
    {"Origin": "null"},
    {"Origin": "https://[broken"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_no_form_of_another_site_is_taken(
    app: FastAPI, signed_in_browser: Browser, headers: dict[str, str]
) -> None:
    unsafe = [(method, path) for method, path in routes_of(app) if method not in SAFE]
    assert len(unsafe) >= 6

    for method, path in unsafe:
        response = await signed_in_browser.client.request(method, path, headers=headers)

        assert response.status_code == 403, (method, path)
        assert "not sent by a page of the console" in response.text
    assert (await signed_in_browser.get("/console/account")).status_code == 200


async def test_a_form_that_does_not_say_where_it_is_from_is_refused(browser: Browser) -> None:
    assert (await browser.post("/console/sign-out", {})).status_code == 403


async def test_a_form_is_taken_by_its_origin_where_browsers_say_no_more(browser: Browser) -> None:
    assert (await browser.post("/console/sign-out", {"Origin": "https://localhost"})).status_code == 303


async def test_a_form_is_taken_behind_proxies_that_end_tls_or_write_another_host(browser: Browser) -> None:
    """As reported of many dashboards, which compare Origin with what the proxy made of the request."""
    ends_tls = {"Origin": "https://localhost"}
    assert (await browser.client.post("http://localhost/console/sign-out", headers=ends_tls)).status_code == 303

    public = {"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}
    assert (await browser.post("/console/sign-out", public)).status_code == 303


async def test_the_pages_of_operators_do_not_exist_for_others(
    app: FastAPI, signed_in_browser: Browser, operator_browser: Browser
) -> None:
    unknown = await signed_in_browser.get("/console/nothing-is-here")
    modules = [module for module in found_pages() if module.for_operators]
    prefixes = [filled(f"/console{route.path}") for module in modules for route in paths(module)]
    hidden = [(method, path) for method, path in routes_of(app) if path in prefixes]
    assert len(hidden) >= len(set(prefixes)) > 3
    for method, path in hidden:
        response = await signed_in_browser.client.request(method, path, headers=OUR_FORM)
        assert response.status_code == 404, (method, path)
        request_ids = [each.headers["X-Request-ID"] for each in (unknown, response)]
        assert response.text.replace(request_ids[1], "") == unknown.text.replace(request_ids[0], "")
    assert (await operator_browser.get("/console/system")).status_code == 200
    assert "/console/system" not in (await signed_in_browser.get("/console/account")).text


async def test_pages_are_kept_by_nobody_and_framed_by_nobody(
    app: FastAPI, browser: Browser, operator_browser: Browser
) -> None:
    pages = {path for method, path in routes_of(app) if method == "GET"} - {"/console/live", STYLE}
    shown = [await operator_browser.get(path) for path in sorted(pages | {"/console/nothing"})]
    for response in (await browser.get("/console/sign-in"), await browser.get("/console/overview"), *shown):
        policy = response.headers["Content-Security-Policy"]
        assert response.headers.get_list("Content-Security-Policy") == [policy]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers.get_list("Referrer-Policy") == ["same-origin"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_what_strangers_write_is_shown_as_text(browser: Browser) -> None:
    evil = '"><script>alert(1)</script>'

    response = await browser.post("/console/sign-in", email=evil, password="x")

    assert response.status_code == 400
    assert "<script>" not in response.text
    assert "&#34;&gt;&lt;script&gt;" in response.text


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "words"),
    [
        ("/console/sign-in", {}, b"email=x&email=y", 400, "malformed"),
        ("/console/sign-in", {}, b"nobody=asked", 422, "Extra inputs are not permitted"),
        ("/console/sign-in", {}, b"x" * 2_000_000, 413, "larger than this endpoint takes"),
        ("/console/sign-in", {"Content-Type": "application/json"}, b"{}", 415, "Send a form"),
        ("/console/account", {}, b"", 405, "Method Not Allowed"),
    ],
)
async def test_an_error_is_a_page_with_the_status_and_the_words_of_the_problem(
    browser: Browser, path: str, headers: dict[str, str], body: bytes, *, status: int, words: str
) -> None:
    form = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"} | headers

    response = await browser.client.post(path, content=body, headers=form)

    assert response.status_code == status
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert words in response.text
    assert int(response.headers["Content-Length"]) == len(response.content)


async def test_assets_are_kept_for_ever_under_their_digest(browser: Browser) -> None:
    page = await browser.get("/console/sign-in")
    path = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]

    style = await browser.get(path)

    assert style.headers["Content-Type"] == "text/css; charset=utf-8"
    assert style.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    for other in ("/console/assets/0000000000000000/console.css", "/console/assets/x/mount.py"):
        assert (await browser.get(other)).status_code == 404


@pytest.mark.parametrize(("console", "status"), [({}, 404), ({"enabled": True}, 200)])
async def test_in_production_there_is_a_console_only_if_the_settings_say_so(
    api_settings: ApiSettings, console: dict[str, bool], status: int
) -> None:
    settings = ConsoleSettings(**console)
    app = app_of(api_settings.model_copy(update={"env": Environment.PRODUCTION, "console": settings}))

    async with open_client(app) as client:
        assert (await client.get("/console/sign-in")).status_code == status


async def test_the_rest_of_the_api_has_its_own_headers_and_errors(browser: Browser) -> None:
    response = await browser.get("/consoles")

    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Referrer-Policy"] == "no-referrer"
