"""The pages of operators in a real browser: from what fails to the job that is mended; narrow, dark, no JavaScript."""

from typing import Any

import pytest
from playwright.async_api import expect
from sqlalchemy import select

from app_db import Database
from app_db.models import Job, User
from tests.e2e.conftest import StartWorker

from .site import EVIL, OPERATOR, VIEWS, ConsoleSite, require_usable


async def test_what_fails_is_found_in_two_clicks_mended_and_seen_to_complete(
    console: ConsoleSite, database: Database, failed_job: Job, start_worker: StartWorker
) -> None:
    async with console.visit("/overview", email=OPERATOR) as seen:
        page = seen.page
        async with database.unit_of_work(read_only=True) as session:
            user_id = (await session.scalars(select(User.id).where(User.email == OPERATOR))).one()

        await page.get_by_role("link", name="no route").click()
        await expect(page.get_by_text("Traceback").first).to_be_visible()
        await page.get_by_role("link", name="Run again as a new job").click()
        await page.get_by_label("Payload (JSON)").fill(f'{{"user": "{user_id}"}}')
        await page.get_by_role("button", name="Enqueue").click()
        await expect(page.get_by_role("alert")).to_contain_text("user_id: Field required")
        await page.get_by_label("Payload (JSON)").fill(f'{{"user_id": "{user_id}"}}')
        await page.get_by_role("button", name="Enqueue").click()
        await expect(page.get_by_role("status")).to_have_text("This is the new job.")
        start_worker()

        await expect(page.locator(".timeline").get_by_text("Completed")).to_be_visible(timeout=60_000)
        assert str(failed_job.id) not in page.url
        assert [fault for fault in seen.faults if "422" not in fault] == []


async def test_many_jobs_are_acted_on_without_javascript(console: ConsoleSite, failed_job: Job) -> None:
    async with console.visit("/overview", email=OPERATOR, java_script_enabled=False) as seen:
        page = seen.page
        await page.get_by_role("link", name="Jobs", exact=True).click()
        await page.get_by_role("link", name="discarded").click()
        await page.get_by_label("Text in an error").fill("NO ROUTE")
        await page.get_by_role("button", name="Filter").click()
        await page.get_by_role("checkbox").check()
        await page.get_by_role("button", name="Retry ticked").click()
        await expect(page.get_by_role("heading")).to_have_text("Retry 1 job?")
        await page.get_by_role("button", name="Retry 1 job").click()
        await expect(page.get_by_role("status")).to_have_text("The jobs are due now.")
        await expect(page.get_by_text("No job matches.")).to_be_visible()

        await page.get_by_role("link", name="Queues").click()
        await page.get_by_role("button", name="Pause default").click()
        await expect(page.get_by_text("paused", exact=True)).to_be_visible()
        await page.get_by_label("At most at once").fill("3")
        await page.get_by_role("button", name="Set").click()
        await page.get_by_role("button", name="Resume default").click()
        await expect(page.get_by_role("status")).to_have_text("The queue is open again.")
        assert seen.faults == []


@pytest.mark.parametrize("options", VIEWS)
async def test_every_page_of_operators_fits_and_can_be_used_by_everybody(
    console: ConsoleSite, failed_job: Job, options: dict[str, Any]
) -> None:
    async with console.visit("/overview", email=OPERATOR, **options) as seen:
        page = seen.page
        job = f"jobs/{failed_job.id}"
        listed = ("jobs", "jobs?state=discarded", "jobs/act?action=retry&state=discarded")
        for path in (
            "overview",
            "overview?window=day",
            *listed,
            job,
            f"{job}/again",
            "batches",
            "queues",
            "limits",
            "crons",
            "workers",
            "system",
        ):
            await page.goto(f"{console.url}/{path}")

            await require_usable(page)
            assert EVIL not in await page.content(), path
        assert seen.faults == []
