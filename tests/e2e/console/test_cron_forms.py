"""A cron of the table in a real browser, beside a real worker: added, seen to tick, paused, changed, deleted."""

import pytest
from playwright.async_api import expect

from app_db.models import Job
from tests.e2e.conftest import StartWorker

from .site import OPERATOR, ConsoleSite, require_usable

AN_UPDATE = 60_000
"""Milliseconds at most until a worker has done something and a page shows it."""


@pytest.mark.parametrize("has_scripts", [True, False])
async def test_a_cron_is_added_seen_to_tick_changed_and_deleted(
    console: ConsoleSite, failed_job: Job, start_worker: StartWorker, *, has_scripts: bool
) -> None:
    start_worker()
    async with console.visit("/crons", email=OPERATOR, java_script_enabled=has_scripts) as seen:
        page = seen.page
        await page.get_by_role("link", name="Add a cron").click()
        await page.get_by_label("Name").fill("tidy.often")
        await page.get_by_label("Kind of its jobs").select_option("sessions.prune")
        await page.get_by_label("Expression").fill("61 * * * * *")
        await page.get_by_role("button", name="Add").click()
        await expect(page.get_by_role("alert")).to_contain_text("expression: It never ticks: Bad second")
        await page.get_by_label("Expression").fill("* * * * * *")
        await page.get_by_role("button", name="Add").click()
        await expect(page.get_by_role("status")).to_contain_text("The cron is added.")

        row = page.get_by_role("row").filter(has_text="tidy.often")
        while not await row.get_by_text("newest job").is_visible():
            await page.wait_for_timeout(500)
            await page.reload()
        await row.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("status")).to_contain_text("The cron is paused")
        await expect(row.get_by_text(f"by {OPERATOR}")).to_be_visible()
        await row.get_by_role("button", name="Run now").click()
        await row.get_by_role("button", name="Resume").click()
        await expect(page.get_by_role("status")).to_contain_text("The cron goes on")

        await row.get_by_role("link", name="Change").click()
        await page.get_by_label("Expression").fill("30 2 * * 1-5")
        await page.get_by_label("Time zone").fill("Europe/Berlin")
        await page.get_by_role("button", name="Change").click()
        await expect(row).to_contain_text("at 02:30, Monday to Friday")

        await row.get_by_role("link", name="Delete").click()
        await page.get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("status")).to_contain_text("The cron is deleted.")
        await expect(row).to_have_count(0)
        assert [fault for fault in seen.faults if "422" not in fault] == []


async def test_pages_of_crons_of_the_table_can_be_used_by_everybody(console: ConsoleSite, failed_job: Job) -> None:
    async with console.visit("/crons/add", email=OPERATOR) as seen:
        page = seen.page
        name = "a.name_that_is_very_long_" + "and_longer_" * 12
        await page.get_by_label("Name").fill(name)
        await page.get_by_label("Kind of its jobs").select_option("sessions.prune")
        await page.get_by_label("Expression").fill("30 2 * * *")
        await page.get_by_role("button", name="Add").click()
        await expect(page.get_by_role("status")).to_contain_text("The cron is added.")
        for path in ("crons/add", f"crons/change?cron={name}", f"crons/delete?cron={name}", "crons"):
            await page.goto(f"{console.url}/{path}")
            for width in (1280, 360):
                await page.set_viewport_size({"width": width, "height": 800})
                await require_usable(page)
        assert seen.faults == []
