"""The console in a real browser, with API and worker: by mouse, by keyboard, without JavaScript, narrow, dark."""

import json
from typing import Any

import pytest
from playwright.async_api import expect

from app_auth.testing import PASSWORD
from tests.e2e.chromium import open_chromium
from tests.e2e.conftest import StartWorker

from .site import ADA, ConsoleSite, require_usable


async def test_an_export_is_followed_without_a_reload_and_keeps_the_focus(
    console: ConsoleSite, start_worker: StartWorker
) -> None:
    async with console.visit("/export", email=ADA) as seen:
        page = seen.page
        await page.get_by_role("button", name="Start an export").click()
        await expect(page.get_by_text("Waiting for a worker")).to_be_visible()
        button = page.get_by_role("button", name="Start an export")
        await button.focus()
        await page.evaluate("window.stays = true")

        start_worker()

        await expect(page.get_by_role("link", name="Download")).to_be_visible(timeout=60_000)
        assert await page.evaluate("window.stays")
        await expect(button).to_be_focused()
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download").click()
        file = await (await download.value).path()
        assert json.loads(file.read_text())["account"]["email"] == ADA
        assert seen.faults == []


async def test_a_page_in_the_background_asks_for_nothing(console: ConsoleSite) -> None:
    async with console.visit("/export", email=ADA) as seen:
        page = seen.page
        async with page.expect_request("**/console/live?**"):
            await page.get_by_role("button", name="Start an export").click()
        hidden = "Object.defineProperty(document, 'visibilityState', {configurable: true, get: () => '%s'})"

        await page.evaluate(hidden % "hidden")
        async with page.expect_event("requestfailed"):
            await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        async with page.expect_request("**/console/live?**"):
            await page.evaluate(hidden % "visible")
            await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


async def test_the_console_works_by_keyboard_alone(console: ConsoleSite) -> None:
    async with console.visit() as seen:
        page = seen.page
        await page.keyboard.type(ADA)  # the first field has the focus
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/console/account")

        await page.keyboard.press("Tab")
        await expect(page.get_by_text("Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Change the password")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/console/account/password")
        await page.get_by_label("Current password").focus()
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Tab")
        await page.keyboard.type("another one, long enough")
        await page.keyboard.press("Enter")

        await expect(page.get_by_role("status")).to_have_text("The password is changed. All other sessions are ended.")
        assert seen.faults == []


async def test_the_console_works_without_javascript(console: ConsoleSite, start_worker: StartWorker) -> None:
    async with console.visit("/export", email=ADA, java_script_enabled=False) as seen:
        page = seen.page
        start_worker()
        await page.get_by_role("button", name="Start an export").click()
        for _ in range(60):
            await page.reload()
            if await page.get_by_role("link", name="Download").count():
                break
            await page.wait_for_timeout(500)
        await expect(page.get_by_role("link", name="Download")).to_be_visible()

        await page.get_by_role("link", name="My account").click()
        await page.get_by_role("link", name="Delete…").click()
        await page.get_by_role("button", name="Delete my account").click()

        await expect(page.get_by_role("status")).to_have_text("Your account is deleted.")
        await page.get_by_label("E-mail address").fill(ADA)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_have_text("Incorrect email or password")


OPEN = (
    "/sign-in", "/register", "/verify", "/forgot", "/reset", "/nothing-is-here",
    "/sign-in/link", "/sign-in/link/open", "/undo-email-change",
)  # fmt: skip
OWN = (
    "/account", "/account/password", "/account/delete", "/confirm", "/export", "/account/email",
    "/account/email/confirm",
)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"viewport": {"width": 360, "height": 740}}, id="narrow"),
        pytest.param({"viewport": {"width": 3840, "height": 2160}}, id="4k"),
        pytest.param({"color_scheme": "dark"}, id="dark"),
        pytest.param({"color_scheme": "light"}, id="light"),
    ],
)
async def test_every_page_fits_and_can_be_used_by_everybody(console: ConsoleSite, options: dict[str, Any]) -> None:
    async with console.visit(**options) as seen:
        page = seen.page
        for path in (*OPEN, *OWN):
            if path == OWN[0]:
                await console.sign_in(page, ADA)
            await page.goto(f"{console.url}{path}")

            await require_usable(page)
        assert [fault for fault in seen.faults if "404" not in fault] == []


async def test_the_back_button_shows_nothing_after_signing_out(console: ConsoleSite) -> None:
    async with (
        open_chromium(keeps_pages=True) as chromium,
        ConsoleSite(console.base, chromium).visit(email=ADA) as seen,
    ):
        page = seen.page
        await page.get_by_role("link", name="Export").click()
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/console/sign-in")

        for _ in range(2):
            await page.go_back()

            await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
            await expect(page.get_by_text(ADA)).to_have_count(0)


async def test_a_form_of_another_site_is_refused(console: ConsoleSite) -> None:
    """Another port of this host is another site's, although browsers send it the same cookies."""
    form = f'<form method="post" action="{console.url}/account/sessions/end-others"><button>Win</button></form>'
    async with console.visit(email=ADA) as seen:
        page = seen.page
        await page.route("http://127.0.0.1:1/", lambda route: route.fulfill(body=form, content_type="text/html"))
        await page.goto("http://127.0.0.1:1/")

        await page.get_by_role("button", name="Win").click()

        await expect(page.get_by_text("not sent by a page of the console")).to_be_visible()


async def test_no_page_of_another_site_can_frame_the_console(console: ConsoleSite) -> None:
    page_with_frame = f'<iframe src="{console.url}/account"></iframe>'
    async with console.visit(email=ADA) as seen:
        page = seen.page
        await page.route(
            "http://127.0.0.1:1/", lambda route: route.fulfill(body=page_with_frame, content_type="text/html")
        )

        await page.goto("http://127.0.0.1:1/")

        [_, frame] = page.frames
        assert frame.url == "chrome-error://chromewebdata/"
        assert ADA not in await frame.content()
