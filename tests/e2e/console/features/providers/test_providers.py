"""Signing in with others in a real Chromium, by a provider of OpenID Connect that shows a page of its own."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from app_db import Database
from app_db.settings import DatabaseSettings
from app_db.types import utcnow
from app_runtime.testing.processes import free_port
from packages.api.tests.features.providers.issuer import CLIENT_ID, CLIENT_SECRET, Issuer, open_issuer
from tests.e2e.chromium import Watched
from tests.e2e.conftest import api_environment
from tests.e2e.console.site import ADA, ConsoleSite, require_usable
from tests.e2e.http_site import NO_LIMITS
from tests.e2e.processes import Api

VIEWS = [
    pytest.param({"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}, id="360"),
    pytest.param({"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}, id="1280"),
]
LONG = "University of Somewhere and Its Hospital"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """A provider, at an address that is another site's for browsers."""
    with open_issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def api(
    issuer: Issuer, database_settings: DatabaseSettings, valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """An API that knows this provider, and one with the longest title."""
    port = free_port()
    acme = {"name": "acme", "issuer": issuer.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    other = {"name": "other", "title": LONG, "issuer": "https://login.example", "client_id": "x"}
    environment = {
        **api_environment(database_settings.url.get_secret_value(), valkey_url), **NO_LIMITS,
        "APP_AUTH__VERIFICATION": "off", "APP_AUTH__MAGIC_LINK": "on",
        "APP_PUBLIC_BASE_URL": f"http://localhost:{port}", "APP_AUTH__PROVIDERS": json.dumps([acme, other]),
    }  # fmt: skip
    api = Api(env=environment, log=tmp_path_factory.mktemp("providers") / "log", port=port)
    yield api
    api.stop()


@pytest.fixture
def site(api: Api, chromium: Any, database: Database) -> ConsoleSite:  # Any: a fixture of this folder
    """The console of that API, by the name that the provider sends browsers back to."""
    return ConsoleSite(f"http://localhost:{api.port}", chromium)


async def test_a_new_person_comes_by_a_provider_and_cannot_unlink_the_only_way_in(
    site: ConsoleSite, issuer: Issuer
) -> None:
    issuer.person = {"sub": "new", "email": "new@example.com", "email_verified": True}
    async with site.visit("/account") as seen:
        page = seen.page
        await page.get_by_role("button", name="Sign in with Acme").click()
        await page.get_by_role("button", name="Continue as new@example.com").click()
        await page.wait_for_url(f"{site.url}/account")
        await expect(page.locator("dl.facts")).to_contain_text("new@example.com")

        await page.get_by_role("link", name="Linked accounts").click()
        await page.get_by_role("button", name="Unlink").click()
        await expect(page.get_by_role("alert")).to_contain_text("nobody could sign in")
        await expect(page.get_by_role("row", name="Acme")).to_be_visible()
        assert faults(seen, issuer) == ["Failed to load resource: the server responded with a status of 409 (Conflict)"]


@pytest.mark.parametrize("view", VIEWS)
async def test_an_owner_links_a_provider_signs_in_by_it_and_unlinks_it(
    site: ConsoleSite, issuer: Issuer, view: dict[str, Any]
) -> None:
    await site.register(ADA)
    async with site.visit("/sign-in", **view) as seen:
        page = seen.page
        await require_usable(page)
        await require_usable_on_the_way(page)
        await link(site, page, issuer)
        await require_usable(page)
        await page.get_by_role("button", name="Sign out").click()

        await page.get_by_role("button", name="Sign in with Acme").click()
        await page.get_by_role("button", name="Continue as").click()
        await page.wait_for_url(f"{site.url}/**")
        await page.goto(f"{site.url}/account/providers")
        await expect(page.get_by_role("row", name="Acme").get_by_text("never")).to_have_count(0)

        await page.get_by_role("button", name="Unlink").click()
        await expect(page.get_by_text("You have none yet.")).to_be_visible()
        await page.goto(f"{site.url}/confirm")
        await require_usable(page)
        assert faults(seen, issuer) == []


@pytest.mark.parametrize("view", VIEWS)
async def test_a_code_is_asked_for_after_a_provider_too(
    site: ConsoleSite, issuer: Issuer, view: dict[str, Any]
) -> None:
    generator_of = pytest.importorskip("pyotp").TOTP  # of a feature that may be removed
    await site.register(ADA)
    async with site.visit("/sign-in", **view) as seen:
        page = seen.page
        await link(site, page, issuer)
        await page.goto(f"{site.url}/account/one-time-codes")
        await page.get_by_role("button", name="Turn on…").click()
        generator = generator_of((await page.locator("main code").first.inner_text()).replace(" ", ""))
        await page.get_by_label("The code that the app shows now").fill(generator.at(utcnow()))
        await page.get_by_role("button", name="Turn on").click()
        await page.get_by_role("link", name="I have kept them").click()
        await page.get_by_role("button", name="Sign out").click()

        await page.get_by_role("button", name="Sign in with Acme").click()
        await page.get_by_role("button", name="Continue as").click()
        await expect(page.get_by_label("Code")).to_be_visible()
        await require_usable(page)
        await page.get_by_label("Code").fill(generator.at(utcnow(), counter_offset=1))
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url(f"{site.url}/**")
        assert faults(seen, issuer) == []


async def link(site: ConsoleSite, page: Page, issuer: Issuer) -> None:
    """Sign in by a password, and link the account of the provider."""
    issuer.person = {"sub": "ada", "email": "a.very.long.address.of.ada@example.com", "email_verified": True}
    await site.sign_in(page, ADA)
    await require_usable(page)
    await page.get_by_role("link", name="Linked accounts").click()
    await expect(page.get_by_role("button", name="Link Acme")).to_be_visible()
    await require_usable(page)
    await page.get_by_role("button", name="Link Acme").click()
    await page.get_by_role("button", name="Continue as").click()
    await expect(page.get_by_role("status")).to_have_text("The account is linked. From now on it signs you in.")


async def require_usable_on_the_way(page: Page) -> None:
    """Look at the page that leads to the provider: without the header by which browsers leave it at once."""

    async def stay(route: Route) -> None:
        answer = await route.fetch()
        kept = {name: value for name, value in answer.headers.items() if name != "refresh"}
        await route.fulfill(response=answer, headers=kept)

    await page.route("**/start", stay)
    await page.get_by_role("button", name="Sign in with Acme").click()
    await expect(page.get_by_role("link", name="Continue to Acme")).to_be_visible()
    await require_usable(page)
    await page.unroute("**/start")


def faults(seen: Watched, issuer: Issuer) -> list[str]:
    """What went wrong on pages of ours: going to the provider is no fault."""
    return [fault for fault in seen.faults if not fault.startswith(issuer.url)]
