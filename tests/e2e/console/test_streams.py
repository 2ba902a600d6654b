"""Live pages when processes stop or windows are many: streams end at once, and pages come back by themselves."""

import asyncio
import signal
from pathlib import Path

from playwright.async_api import expect

from app_db import Database
from tests.e2e.conftest import StartWorker, api_environment
from tests.e2e.http_site import NO_LIMITS
from tests.e2e.processes import Api, until

from .site import ADA, OPERATOR, ConsoleSite

GRACE = "grace@example.com"
"""Ada's password is another API's: this one has secrets of its own."""
WINDOWS, LIVE_AT_ONCE = 8, 4


async def test_streams_end_as_soon_as_the_process_is_told_to_stop_and_the_page_comes_back(
    console: ConsoleSite, database: Database, valkey_url: str, tmp_path: Path
) -> None:
    environment = api_environment(database.settings.url.get_secret_value(), valkey_url)
    environment |= {**NO_LIMITS, "APP_AUTH__VERIFICATION": "off", "APP_HTTP__DRAIN": "PT10S"}
    api = Api(env=environment, log=tmp_path / "first.log")
    site = ConsoleSite(api.url, console.chromium)
    await site.register(GRACE)
    async with site.visit("/export", email=GRACE) as seen:
        page = seen.page
        async with page.expect_response("**/console/live?**") as stream:
            await page.get_by_role("button", name="Start an export").click()
        assert (await stream.value).headers["x-accel-buffering"] == "no"  # nginx would keep the events back
        await page.evaluate("window.stays = true")

        async with asyncio.timeout(8), page.expect_event("requestfinished", lambda request: "/live" in request.url):
            api.signal(signal.SIGTERM)
        await until(lambda: not api.is_running(), "it has ended")
        async with page.expect_response("**/console/live?**", timeout=60_000):
            again = Api(env=environment, log=tmp_path / "again.log", port=api.port)

        assert await page.evaluate("window.stays")
        again.kill()
    assert api.stop() == 0, api.output


async def test_a_worker_that_was_killed_becomes_silent_on_the_page(
    console: ConsoleSite, failed_job: object, start_worker: StartWorker, database: Database
) -> None:
    worker = start_worker()
    async with console.visit("/workers", email=OPERATOR) as seen:
        row = seen.page.get_by_role("heading", name=str(worker.pid))
        await expect(row).to_contain_text("alive")

        worker.kill()

        await expect(row).to_contain_text("silent", timeout=90_000)


async def test_more_windows_than_a_browser_has_connections_load_and_take_turns(console: ConsoleSite) -> None:
    async with console.visit("/export", email=ADA) as seen:
        await seen.page.get_by_role("button", name="Start an export").click()
        context = seen.page.context
        live: list[object] = []
        context.on("response", lambda response: live.append(response.frame.page) if "/live?" in response.url else None)

        windows = [await context.new_page() for _ in range(WINDOWS)]
        for window in windows:
            await window.goto(f"{console.url}/export", timeout=15_000)

        await until(lambda: len(live) >= LIVE_AT_ONCE - 1, "as many are live as may be")
        waiting = [window for window in windows if window not in live]
        assert len(waiting) > WINDOWS - LIVE_AT_ONCE
        for window in windows:
            if window in live:
                await window.close()
        await until(lambda: {*waiting[: LIVE_AT_ONCE - 1]} & {*live}, "others have their turn")
