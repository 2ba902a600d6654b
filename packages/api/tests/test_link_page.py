"""The page that mailed links lead to."""

import re

import pytest
from httpx2 import AsyncClient

from app_api.settings import ApiSettings, ConsoleSettings
from app_api.testing import open_client
from packages.api.tests.conftest import app_of


@pytest.mark.parametrize("path", ["/links", "/links/links.js", "/links/links.css"])
async def test_the_page_and_what_it_loads_are_served(client: AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_without_docs_the_page_is_where_links_lead(api_settings: ApiSettings) -> None:
    http = api_settings.http.model_copy(update={"docs": False})

    async with open_client(app_of(api_settings.model_copy(update={"http": http}))) as client:
        root, page = await client.get("/"), await client.get("/links")

    assert root.status_code == 200
    assert root.content == page.content


@pytest.mark.parametrize("enabled", [True, False])
async def test_the_page_leads_to_the_console_where_there_is_one(api_settings: ApiSettings, enabled: bool) -> None:
    settings = api_settings.model_copy(update={"console": ConsoleSettings(enabled=enabled)})

    async with open_client(app_of(settings)) as client:
        page = await client.get("/links")

    assert ('<a href="/console">Sign in</a>' in page.text) == enabled


async def test_with_docs_their_page_sends_on_those_who_come_with_a_link(client: AsyncClient) -> None:
    page = await client.get("/")
    script = await client.get("/docs-assets/swagger.js")

    assert "/docs-assets/swagger.js" in page.text
    assert 'location.replace("/links" + location.hash)' in script.text
    link = re.compile(script.text.split("if (/")[1].split("/.test(")[0].replace("\\/", "/"))
    actions = re.findall(r'<form id="([a-z-]+)"', (await client.get("/links")).text)
    assert len(actions) >= 4
    assert all(link.match(f"#/{action}?token=x") for action in actions)


async def test_the_page_runs_no_script_but_its_own(client: AsyncClient) -> None:
    page = await client.get("/links")

    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"<script(?![^>]* src=\"/links/)", page.text) == []
    assert re.findall(r" on\w+=| style=|<style", page.text) == []


async def test_the_page_asks_for_as_many_characters_as_a_password_needs(api_settings: ApiSettings) -> None:
    auth = api_settings.auth.model_copy(update={"password_min_length": 20})

    async with open_client(app_of(api_settings.model_copy(update={"auth": auth}))) as client:
        page = await client.get("/links")

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "at least 20 characters" in page.text
    assert 'minlength="20"' in page.text


async def test_a_page_is_served_whatever_the_query(client: AsyncClient) -> None:
    """Programs that mark links in mails add parameters to them."""
    assert (await client.get("/links?utm_source=mail&utm_source=mail")).status_code == 200


async def test_a_get_uses_no_token(client: AsyncClient) -> None:
    for path in ("/auth/email/verify", "/auth/password/reset"):
        assert (await client.get(path)).status_code == 405
