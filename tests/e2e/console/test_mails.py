"""The mails that a development machine has caught, in a real browser."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from dev_samples import write_samples
from playwright.async_api import Browser, expect

from app_db import Database
from app_db.settings import DatabaseSettings
from tests.e2e.conftest import api_environment
from tests.e2e.http_site import NO_LIMITS
from tests.e2e.processes import Api

from .site import ADA, ConsoleSite, require_usable

SUBJECT = "Confirm your address for Groundwork"


@pytest_asyncio.fixture(loop_scope="session")
async def development(
    chromium: Browser, database_settings: DatabaseSettings, database: Database, valkey_url: str, tmp_path: Path
) -> AsyncIterator[ConsoleSite]:
    """The console of an API as `make dev` starts it, with a mailbox at `tmp_path`; Ada has an account."""
    environment = api_environment(database_settings.url.get_secret_value(), valkey_url) | NO_LIMITS
    told = {"APP_ENV": "development", "APP_AUTH__VERIFICATION": "off", "APP_CONSOLE__MAIL_FOLDER": str(tmp_path)}
    api = Api(env=environment | told, log=tmp_path / "log")
    site = ConsoleSite(api.url, chromium)
    await site.register(ADA)
    yield site
    assert api.stop() in {0, -signal.SIGTERM}, api.output


async def test_a_mail_appears_when_it_is_caught_and_is_read(development: ConsoleSite, tmp_path: Path) -> None:
    write_samples(tmp_path / "samples")
    samples = len([*(tmp_path / "samples").glob("*.eml")])
    async with development.visit(email=ADA) as seen:
        page = seen.page
        await page.get_by_role("link", name="Mails").click()
        await expect(page.get_by_text("No mail yet.")).to_be_visible()
        await expect(page.get_by_role("region", name="Templates").get_by_role("link")).to_have_count(samples)
        mail = (tmp_path / "samples/verify.eml").read_bytes()
        (tmp_path / "20261130-002600-000001-verify.eml").write_bytes(mail)

        caught = page.get_by_role("region", name="Caught").get_by_role("link", name=SUBJECT)
        await expect(caught).to_be_visible()
        await require_usable(page)
        await caught.click()

        await expect(page.get_by_role("heading", name=SUBJECT)).to_be_visible()
        await expect(page.get_by_role("link", name="verify?token=sample")).to_be_visible()
        framed = page.frame_locator("iframe")
        await expect(framed.get_by_text("ada@example.com").first).to_be_visible()
        await page.set_viewport_size({"width": 360, "height": 740})
        await require_usable(page)
        assert seen.faults == []


async def test_visitors_read_the_mails_of_a_development_machine(development: ConsoleSite, tmp_path: Path) -> None:
    write_samples(tmp_path / "samples")
    async with development.visit("/mails", java_script_enabled=False) as seen:
        await seen.page.get_by_role("link", name=SUBJECT).click()

        await expect(seen.page.get_by_role("heading", name=SUBJECT)).to_be_visible()
        assert seen.faults == []
