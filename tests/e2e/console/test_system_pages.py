"""Crons, queues and workers in a real browser, beside a real worker: what they show by themselves, and what they do."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL

from playwright.async_api import expect

from app_db import Database
from app_db.models import Job, JobState, JobWorker
from app_db.types import new_id
from tests.e2e.conftest import Environment, StartWorker

from .site import OPERATOR, ConsoleSite, require_usable

AN_UPDATE = 60_000
"""Milliseconds at most until a worker has done something and a page shows it."""


async def test_a_cron_is_run_now_and_its_job_is_seen_to_complete(
    console: ConsoleSite, failed_job: Job, start_worker: StartWorker
) -> None:
    start_worker()
    async with console.visit("/crons", email=OPERATOR, timezone_id="Asia/Kathmandu", locale="en-GB") as seen:
        row = seen.page.get_by_role("row").filter(has_text="sessions.prune")
        await expect(row).to_contain_text("every 10 minutes", timeout=AN_UPDATE)
        await expect(row.locator("time[data-local]").first).to_contain_text("GMT+5:45")
        for width in (1280, 360):
            await seen.page.set_viewport_size({"width": width, "height": 800})
            await require_usable(seen.page)
        await row.get_by_role("button", name="Run now").click()
        await expect(seen.page.get_by_role("status")).to_have_text("The job is enqueued within five seconds.")

        await expect(row.get_by_text("completed")).to_be_visible(timeout=AN_UPDATE)
        await expect(row.locator("time[data-local]").first).to_contain_text("GMT+5:45")
        await row.get_by_role("link", name="newest job").click()
        await expect(seen.page.get_by_role("heading", level=1)).to_contain_text("sessions.prune completed")
        assert seen.faults == []


async def test_crons_are_shown_in_utc_and_run_without_javascript(
    console: ConsoleSite, failed_job: Job, start_worker: StartWorker
) -> None:
    start_worker()
    options = {"java_script_enabled": False, "timezone_id": "Asia/Kathmandu"}
    async with console.visit("/crons", email=OPERATOR, **options) as seen:
        row = seen.page.get_by_role("row").filter(has_text="jobs.prune")

        async def is_described() -> bool:
            await seen.page.reload()
            return await row.get_by_role("button", name="Run now").is_visible()

        while not await is_described():
            await seen.page.wait_for_timeout(500)
        await expect(row.get_by_role("cell").nth(2)).to_contain_text("UTC")
        await expect(row.locator("time[data-local]").first).to_be_empty()
        await row.get_by_role("button", name="Run now").click()

        await expect(seen.page.get_by_role("status")).to_be_visible()
        assert seen.faults == []


async def test_the_system_page_shows_the_retention_that_workers_apply(
    console: ConsoleSite, failed_job: Job, start_worker: StartWorker
) -> None:
    start_worker(
        APP_RETENTION__AUDIT="P400D", APP_RETENTION__AUDIT_AFTER_EXPORT="true", APP_RETENTION__DISCARDED="P90D"
    )
    async with console.visit("/crons", email=OPERATOR) as seen:
        for name in ("audit.months", "jobs.prune"):
            row = seen.page.get_by_role("row").filter(has_text=name)
            await row.get_by_role("button", name="Run now").click(timeout=AN_UPDATE)
            await expect(row.get_by_text("completed")).to_be_visible(timeout=AN_UPDATE)
        for width in (1280, 360):
            await seen.page.set_viewport_size({"width": width, "height": 800})
            await seen.page.goto(f"{console.url}/system")
            facts = seen.page.locator("dl.facts").filter(has_text="discarded jobs")
            await expect(facts).to_contain_text("400 d")
            await expect(facts).to_contain_text("audit only after export")
            await expect(facts).to_contain_text("90 d")
            await expect(facts).not_to_contain_text("default")
            await require_usable(seen.page)
            if folder := os.environ.get("PICTURES"):
                await facts.screenshot(path=f"{folder}/system-{width}.png")
        assert seen.faults == []


async def test_a_pause_from_a_shell_is_seen_and_ended(
    console: ConsoleSite, failed_job: Job, worker_environment: Environment
) -> None:
    async with console.visit("/queues", email=OPERATOR) as seen:
        pause = (sys.executable, "-m", "app_worker", "pause", "default")
        command = await asyncio.create_subprocess_exec(*pause, env={**os.environ, **worker_environment}, stdout=DEVNULL)
        assert await command.wait() == 0

        await expect(seen.page.get_by_text("by a command on a server")).to_be_visible(timeout=AN_UPDATE)
        await seen.page.get_by_role("button", name="Resume default").click()
        await expect(seen.page.get_by_text("paused", exact=True)).to_have_count(0)
        await seen.page.get_by_role("button", name="Pause default").click()
        await expect(seen.page.get_by_text(f"by {OPERATOR}")).to_be_visible()
        assert seen.faults == []


async def test_a_worker_is_seen_with_what_it_has_in_hand_until_it_stops(
    console: ConsoleSite, failed_job: Job, database: Database, start_worker: StartWorker
) -> None:
    async with database.unit_of_work() as session:
        running = Job(id=new_id(), kind="reports.build", payload={}, payload_version=1, state=JobState.DISPATCHED)
        session.add(running)
        about = {"host": "other-host", "pid": 8, "queues": ["default"], "concurrency": 10}
        session.add(JobWorker(id=new_id(), held_job_ids=[running.id], loop_lag=2.5, **about))
    worker = start_worker()
    async with console.visit("/workers", email=OPERATOR) as seen:
        own = seen.page.locator("section.card").filter(has_text=f"· {worker.pid}")
        await expect(own.get_by_text("alive")).to_be_visible(timeout=AN_UPDATE)
        await expect(own).to_contain_text("Version0.")
        await expect(own).to_contain_text("Event loop")
        other = seen.page.locator("section.card").filter(has_text="other-host")
        await expect(other.get_by_text("late by 2.5 s")).to_be_visible()
        await require_usable(seen.page)
        assert await asyncio.to_thread(worker.stop) == 0

        await expect(own).to_have_count(0, timeout=AN_UPDATE)
        await other.get_by_role("link", name="reports.build").click()
        await expect(seen.page.get_by_role("heading", level=1)).to_contain_text("reports.build")
        assert seen.faults == []
