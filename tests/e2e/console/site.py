"""The console as somebody with a browser meets it: accounts, jobs of each state, and a signed-in page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from httpx2 import AsyncClient
from playwright.async_api import Browser, Page
from sqlalchemy import delete, func, update

from app_auth.testing import PASSWORD
from app_db import Database
from app_db.features.accounts.payloads import WelcomeEmail
from app_db.features.figures.repository import FigureRepository
from app_db.models import Job, JobError, JobState, JobWorker, Role, User
from app_db.types import new_id
from tests.e2e.chromium import Watched, violations

ADA = "ada@example.com"
OPERATOR = "operator@example.com"
EVIL = "<script>alert(1)</script>"
VIEWS = [
    pytest.param({"viewport": {"width": 360, "height": 740}}, id="narrow"),
    pytest.param({"color_scheme": "dark"}, id="dark"),
    pytest.param({"color_scheme": "light"}, id="light"),
]
"""How each page of operators is looked at: options of `visit`."""


@dataclass(frozen=True, slots=True)
class ConsoleSite:
    """The console of an API that runs at `base`, and a browser."""

    base: str
    chromium: Browser

    @property
    def url(self) -> str:
        """The address of the console."""
        return f"{self.base}/console"

    async def register(self, email: str) -> None:
        """Make an account with the usual password."""
        async with AsyncClient(base_url=self.base) as http:
            made = await http.post("/auth/register", json={"email": email, "password": PASSWORD})
        assert made.status_code == 201, made.text

    async def sign_in(self, page: Page, email: str, *, to: str = "/account") -> None:
        """Ask for a page, and sign in on the way to it."""
        await page.goto(f"{self.url}{to}")
        await page.get_by_label("E-mail address").fill(email)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await page.wait_for_url(f"{self.url}{to}")

    @asynccontextmanager
    async def visit(self, to: str = "", *, email: str | None = None, **options: Any) -> AsyncIterator[Watched]:
        """Open a page in a browser without cookies, signed in if there is an address; options are of `new_context`.

        Example:
            async with console.visit("/overview", email=OPERATOR, color_scheme="dark") as seen:
                await seen.page.get_by_role("link", name="Jobs", exact=True).click()
                assert seen.faults == []
        """
        context = await self.chromium.new_context(**options)  # Any: of several types
        seen = Watched(await context.new_page(), base=self.base)
        if email:
            await self.sign_in(seen.page, email, to=to or "/account")
        else:
            await seen.page.goto(f"{self.url}{to}")
        yield seen
        await context.close()


async def require_usable(page: Page) -> None:
    """Require that the page is no wider than its window, and that everybody can use it."""
    size: dict[str, int] = await page.evaluate("({is: document.documentElement.scrollWidth, may: innerWidth})")
    assert size["is"] <= size["may"], page.url
    assert await violations(page) == [], page.url


async def seed_failed_job(database: Database) -> Job:
    """Let OPERATOR be one, and have a mail that failed among jobs that run and wait, with their figures."""
    about = {"payload_version": 1, "payload": {"user_id": str(new_id()), "note": EVIL}}
    failed = Job(id=new_id(), kind=WelcomeEmail.kind, state=JobState.DISCARDED, attempt=1, max_attempts=1, **about)
    failed.finished_at = failed.started_at = func.now()
    running = Job(id=new_id(), kind="reports.build", state=JobState.EXECUTING, progress={"done": 1, "of": 4}, **about)
    running.started_at = running.claim_at = func.now()
    async with database.unit_of_work() as session:
        await session.execute(update(User).where(User.email == OPERATOR).values(role=Role.OPERATOR))
        await session.execute(delete(Job))
        session.add_all([failed, running])
        session.add(JobWorker(id=new_id(), host=EVIL, pid=7, queues=["default"], concurrency=10))
        await session.flush()  # the error refers to its job
        session.add(JobError(job_id=failed.id, attempt=1, error=f"no route {EVIL}", trace=f"Traceback {EVIL}\n" * 40))
    for _ in range(8):
        async with database.unit_of_work() as session:
            await FigureRepository(session).count()
    return failed
