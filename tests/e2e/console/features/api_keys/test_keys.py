"""Keys for machines in a real browser: made on My account, shown once, used, revoked; usable in each view."""

from typing import Any

import pytest
from httpx2 import AsyncClient
from playwright.async_api import expect

from tests.e2e.console.site import ADA, VIEWS, ConsoleSite, require_usable


@pytest.mark.parametrize("view", VIEWS)
async def test_a_key_is_made_used_and_revoked_without_javascript(console: ConsoleSite, view: dict[str, Any]) -> None:
    async with console.visit("/account", email=ADA, java_script_enabled=False, **view) as seen:
        page = seen.page
        await page.get_by_role("link", name="Keys…").click()
        await page.get_by_label("Name").fill("nightly report")
        await page.get_by_label("jobs:read").check()
        await page.get_by_role("button", name="Make the key").click()
        key = await page.get_by_label("nightly report").input_value()
        await page.get_by_role("link", name="Done").click()

        async with AsyncClient(base_url=console.base, headers={"Authorization": f"Bearer {key}"}) as machine:
            assert (await machine.get("/jobs")).status_code == 200
            assert (await machine.post("/auth/keys", json={})).json()["code"] == "key_not_accepted"
            await expect(page.get_by_role("row", name="nightly report")).to_be_visible()
            await page.get_by_role("button", name="Revoke the key nightly report").click()
            await expect(page.get_by_text("You have none.")).to_be_visible()
            assert (await machine.get("/jobs")).status_code == 401
        assert seen.faults == []


@pytest.mark.parametrize("view", VIEWS)
async def test_the_pages_of_keys_fit_and_can_be_used_by_everybody(console: ConsoleSite, view: dict[str, Any]) -> None:
    async with console.visit("/account/keys", email=ADA, **view) as seen:
        page = seen.page
        await page.get_by_label("Name").fill("a name as long as it may be " * 3)
        for scope in ("account:export", "jobs:read", "jobs:write"):
            await page.get_by_label(scope).check()
        await page.get_by_role("button", name="Make the key").click()
        await expect(page.get_by_role("heading", name="The new key")).to_be_visible()
        await require_usable(page)
        await page.get_by_role("link", name="Done").click()
        await expect(page.get_by_role("button", name="Revoke")).to_be_visible()
        await require_usable(page)
