"""Thousands of jobs acted on in a real browser: the number first, a bar, a worker that is killed, rows that stay."""

from functools import partial

from playwright.async_api import expect
from sqlalchemy import func, select, text, update

from app_db import Database
from app_db.features.jobs.payloads import ActOnJobs
from app_db.models import Job, JobState
from tests.e2e.conftest import StartWorker
from tests.e2e.processes import eventually

from .site import OPERATOR, ConsoleSite, require_usable

MANY = 30_000
_SEED = text("""
    INSERT INTO jobs (id, kind, payload, payload_version, state, finished_at)
    SELECT uuidv7(interval '-1 hour'), 'many', '{}', 1, 'discarded', now() FROM generate_series(1, :many)
""")


async def result_of(database: Database) -> object:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(Job.result).where(Job.kind == ActOnJobs.kind))).one()


async def test_all_jobs_that_match_are_deleted_although_the_worker_is_killed_in_the_middle(
    console: ConsoleSite, database: Database, failed_job: Job, start_worker: StartWorker
) -> None:
    for _ in range(MANY // 3_000):  # each within the time of a request, on a busy machine too
        async with database.unit_of_work() as session:
            await session.execute(_SEED, {"many": 3_000})
    async with console.visit("/overview", email=OPERATOR) as seen:
        page = seen.page
        await page.goto(f"{console.url}/jobs?state=discarded&kind=many")
        await page.get_by_role("link", name="Delete all").click()
        await expect(page.get_by_role("heading", name="Delete 1000+ jobs?")).to_be_visible()
        await require_usable(page)
        await page.get_by_role("button", name="Delete 1000+ jobs").click()
        await expect(page.get_by_role("status")).to_contain_text("This job does it")
        worker = start_worker()
        await expect(page.get_by_role("progressbar")).to_be_visible(timeout=60_000)
        worker.kill()
        start_worker()

        await expect(page.locator(".timeline").get_by_text("Completed")).to_be_visible(timeout=90_000)
        assert seen.faults == []
    async with database.unit_of_work(read_only=True) as session:
        left = (await session.scalars(select(func.count()).where(Job.kind == "many"))).one()
        kept = (await session.scalars(select(Job.state).where(Job.id == failed_job.id))).one()
    assert (left, kept) == (0, JobState.DISCARDED)
    # The job is completed with its last deletions, and its result is stored after that.
    assert await eventually(partial(result_of, database), "the result was stored") == {"acted_on": MANY}


async def test_rows_change_in_place_and_ticked_jobs_stay_ticked(
    console: ConsoleSite, database: Database, failed_job: Job
) -> None:
    async with console.visit("/overview", email=OPERATOR) as seen:
        page = seen.page
        await page.goto(f"{console.url}/jobs")
        row = page.locator(f"#job-{failed_job.id}")
        await row.get_by_role("checkbox").check()
        async with database.unit_of_work() as session:
            await session.execute(update(Job).where(Job.id == failed_job.id).values(state=JobState.CANCELLED))
            session.add(Job(kind="newer", payload={}, payload_version=1, state=JobState.DISCARDED,
                            finished_at=func.now()))  # fmt: skip

        await expect(row.get_by_text("cancelled")).to_be_visible()
        await expect(row.get_by_role("checkbox")).to_be_checked()
        await page.get_by_role("link", name="1 newer job matches").click()
        await expect(page.get_by_role("link", name="newer", exact=True)).to_be_visible()
        assert seen.faults == []
