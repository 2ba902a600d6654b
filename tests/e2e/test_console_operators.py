"""The pages of operators in a real browser: from what fails to the job that is mended; narrow, dark, no JavaScript."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from httpx2 import AsyncClient
from playwright.async_api import Browser, Page, expect
from sqlalchemy import delete, func, select, update

from app_auth.testing import PASSWORD
from app_db import Database
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.features.figures.repository import FigureRepository
from app_db.models import Job, JobError, JobState, JobWorker, Role, User
from app_db.types import new_id

from .chromium import Watched, open_chromium, violations
from .conftest import StartWorker
from .processes import Api

OPERATOR = "operator@example.com"
EVIL = "<script>alert(1)</script>"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with open_chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def failed_job(api: Api, database: Database) -> Job:
    """A mail that failed, in a system with jobs that run and wait; the operator has an account."""
    async with AsyncClient(base_url=api.url) as http:
        made = await http.post("/auth/register", json={"email": OPERATOR, "password": PASSWORD})
        assert made.status_code == 201, made.text
    about = {"payload_version": 1, "payload": {"user_id": str(new_id()), "note": EVIL}}
    failed = Job(id=new_id(), kind=WelcomeEmail.kind, state=JobState.DISCARDED, attempt=1, max_attempts=1, **about)
    failed.finished_at = failed.started_at = func.now()
    running = Job(id=new_id(), kind="reports.build", state=JobState.EXECUTING, progress={"done": 1, "of": 4}, **about)
    running.started_at = running.claim_at = func.now()
    async with database.unit_of_work() as session:
        await session.execute(update(User).values(role=Role.OPERATOR))
        await session.execute(delete(Job))
        session.add_all([failed, running])
        session.add(JobWorker(id=new_id(), host=EVIL, pid=7, queues=["default"], concurrency=10))
        await session.flush()
        session.add(JobError(job_id=failed.id, attempt=1, error=f"no route {EVIL}", trace=f"Traceback {EVIL}\n" * 40))
    for _ in range(8):
        async with database.unit_of_work() as session:
            await FigureRepository(session).count()
    return failed


async def sign_in(page: Page, console: str) -> None:
    await page.goto(f"{console}/overview")
    await page.get_by_label("E-mail address").fill(OPERATOR)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/console/overview")


async def open_page(chromium: Browser, base: str, **options: object) -> Watched:
    context = await chromium.new_context(**options)  # type: ignore[arg-type]
    return Watched(await context.new_page(), base=base)


async def test_what_fails_is_found_in_two_clicks_mended_and_seen_to_complete(
    chromium: Browser, api: Api, database: Database, failed_job: Job, start_worker: StartWorker
) -> None:
    seen = await open_page(chromium, api.url)
    page = seen.page
    await sign_in(page, f"{api.url}/console")
    async with database.unit_of_work(read_only=True) as session:
        user_id = (await session.scalars(select(User.id))).one()

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
    await page.context.close()


async def test_many_jobs_are_acted_on_without_javascript(chromium: Browser, api: Api, failed_job: Job) -> None:
    seen = await open_page(chromium, api.url, java_script_enabled=False)
    page = seen.page
    await sign_in(page, f"{api.url}/console")
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
    await page.context.close()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"viewport": {"width": 360, "height": 740}}, id="narrow"),
        pytest.param({"color_scheme": "dark"}, id="dark"),
        pytest.param({"color_scheme": "light"}, id="light"),
    ],
)
async def test_every_page_of_operators_fits_and_can_be_used_by_everybody(
    chromium: Browser, api: Api, failed_job: Job, options: dict[str, object]
) -> None:
    seen = await open_page(chromium, api.url, **options)
    page = seen.page
    await sign_in(page, f"{api.url}/console")
    job = f"jobs/{failed_job.id}"
    lists = ("overview", "overview?window=day", "jobs", "jobs?state=discarded", "jobs/act?action=retry&state=discarded")
    for path in (*lists, job, f"{job}/again", "queues", "workers"):
        await page.goto(f"{api.url}/console/{path}")
        size: dict[str, int] = await page.evaluate("({is: document.documentElement.scrollWidth, may: innerWidth})")

        assert size["is"] <= size["may"], path
        assert await violations(page) == [], path
        assert EVIL not in await page.content(), path
    assert seen.faults == []
    await page.context.close()
