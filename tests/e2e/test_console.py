"""The console in a real browser, with API and worker: by mouse, by keyboard, without JavaScript, narrow, dark."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from httpx2 import AsyncClient
from playwright.async_api import Browser, Page, expect

from app_auth.testing import PASSWORD
from app_db import Database

from .chromium import Watched, open_chromium, violations
from .conftest import StartWorker
from .processes import Api

ADA = "ada@example.com"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with open_chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def registered(api: Api, database: Database) -> str:
    """The address of the console, where Ada has an account."""
    async with AsyncClient(base_url=api.url) as http:
        made = await http.post("/auth/register", json={"email": ADA, "password": PASSWORD})
        assert made.status_code == 201, made.text
    return f"{api.url}/console"


async def sign_in(page: Page, console: str, *, to: str = "") -> None:
    await page.goto(f"{console}{to}")
    await page.get_by_label("E-mail address").fill(ADA)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{console}{to or '/account'}")


async def open_page(chromium: Browser, base: str, **options: object) -> Watched:
    context = await chromium.new_context(**options)  # type: ignore[arg-type]
    return Watched(await context.new_page(), base=base)


async def test_an_export_is_followed_without_a_reload_and_keeps_the_focus(
    chromium: Browser, registered: str, api: Api, start_worker: StartWorker
) -> None:
    seen = await open_page(chromium, api.url)
    page = seen.page
    await sign_in(page, registered, to="/export")
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
    await page.context.close()


async def test_a_page_in_the_background_asks_for_nothing(chromium: Browser, registered: str, api: Api) -> None:
    seen = await open_page(chromium, api.url)
    page = seen.page
    await sign_in(page, registered, to="/export")
    async with page.expect_request("**/console/live?**"):
        await page.get_by_role("button", name="Start an export").click()
    hidden = "Object.defineProperty(document, 'visibilityState', {configurable: true, get: () => '%s'})"

    await page.evaluate(hidden % "hidden")
    async with page.expect_event("requestfailed"):
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    async with page.expect_request("**/console/live?**"):
        await page.evaluate(hidden % "visible")
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await page.context.close()


async def test_the_console_works_by_keyboard_alone(chromium: Browser, registered: str, api: Api) -> None:
    seen = await open_page(chromium, api.url)
    page = seen.page
    await page.goto(registered)
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
    await page.context.close()


async def test_the_console_works_without_javascript(
    chromium: Browser, registered: str, api: Api, start_worker: StartWorker
) -> None:
    seen = await open_page(chromium, api.url, java_script_enabled=False)
    page = seen.page
    await sign_in(page, registered, to="/export")
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
    await page.context.close()


OPEN = ("/sign-in", "/register", "/verify", "/forgot", "/reset", "/nothing-is-here")
OWN = ("/account", "/account/password", "/account/delete", "/confirm", "/export")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"viewport": {"width": 360, "height": 740}}, id="narrow"),
        pytest.param({"viewport": {"width": 3840, "height": 2160}}, id="4k"),
        pytest.param({"color_scheme": "dark"}, id="dark"),
        pytest.param({"color_scheme": "light"}, id="light"),
    ],
)
async def test_every_page_fits_and_can_be_used_by_everybody(
    chromium: Browser, registered: str, api: Api, options: dict[str, object]
) -> None:
    seen = await open_page(chromium, api.url, **options)
    page = seen.page
    for path in (*OPEN, *OWN):
        if path == OWN[0]:
            await sign_in(page, registered)
        await page.goto(f"{registered}{path}")
        size: dict[str, int] = await page.evaluate("({is: document.documentElement.scrollWidth, may: innerWidth})")

        assert size["is"] <= size["may"], path
        assert await violations(page) == [], path
    assert [fault for fault in seen.faults if "404" not in fault] == []
    await page.context.close()


async def test_the_back_button_shows_nothing_after_signing_out(registered: str, api: Api) -> None:
    async with open_chromium(keeps_pages=True) as chromium:
        seen = await open_page(chromium, api.url)
        page = seen.page
        await sign_in(page, registered)
        await page.get_by_role("link", name="Export").click()
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/console/sign-in")

        for _ in range(2):
            await page.go_back()

            await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
            await expect(page.get_by_text(ADA)).to_have_count(0)


async def test_a_form_of_another_site_is_refused(chromium: Browser, registered: str, api: Api) -> None:
    """Another port of this host is another site's, although browsers send it the same cookies."""
    context = await chromium.new_context()
    page = await context.new_page()
    await sign_in(page, registered)
    form = f'<form method="post" action="{registered}/account/sessions/end-others"><button>Win</button></form>'
    await page.route("http://127.0.0.1:1/", lambda route: route.fulfill(body=form, content_type="text/html"))
    await page.goto("http://127.0.0.1:1/")

    await page.get_by_role("button", name="Win").click()

    await expect(page.get_by_text("not sent by a page of the console")).to_be_visible()
    await context.close()
