"""The audit as a file, in the console: asked for with the filter of its page, followed, downloaded."""

import pytest_asyncio
from sqlalchemy import update

from app_api.console.fragments import Watched
from app_api.features.export.operator_pages import read_audit_exports
from app_auth.testing import Account
from app_db import Database
from app_db.features.export.payloads import AuditExport
from app_db.models import Job, JobState
from app_db.types import new_id
from packages.api.tests.conftest import Browser
from packages.api.tests.features.export.exports import CSV, Finish, finish, newest

__all__ = ["finish"]  # a fixture


@pytest_asyncio.fixture(loop_scope="session")
async def export_page(operator_browser: Browser, ada: Account) -> str:
    """The address of the page, after an export of Ada's events was asked for."""
    started = await operator_browser.post("/console/audit/export", account=ada.email, until="2026-11-20")
    assert started.status_code == 303, started.text
    return started.headers["Location"]


async def test_the_filter_of_the_page_is_that_of_the_file(
    operator_browser: Browser, export_page: str, database: Database, ada: Account
) -> None:
    page = (await operator_browser.get(f"/console/audit?account={ada.id}&until=2026-11-20")).text

    form = page.partition('action="/console/audit/export"')[2].partition("</form>")[0]
    assert (form.count("hidden"), "Export what matches" in form) == (2, True)
    payload = (await newest(database)).payload
    assert (payload["user_id"], payload["before"]) == (str(ada.id), "2026-11-21T00:00:00Z")


async def test_the_page_of_the_export_shows_how_far_it_is_and_leads_to_the_file(
    operator_browser: Browser, export_page: str, database: Database, finish: Finish
) -> None:
    async def shown(**values: object) -> str:
        if values:
            async with database.unit_of_work() as session:
                await session.execute(update(Job).where(Job.kind == AuditExport.kind).values(**values))
        return (await operator_browser.get(export_page)).text

    job = await newest(database)
    path = f"{export_page}/{job.id}/file"
    assert "Waiting for a worker" in await shown()
    assert "7,000 events so far" in await shown(progress={"done": 30, "of": 100, "events": 7000})
    again = await operator_browser.post("/console/audit/export")
    assert (again.status_code, "is under way" in again.text) == (409, True)
    assert (await operator_browser.get(path)).status_code == 404
    await finish(job.id)
    assert f'href="{path}"' in await shown()
    assert (await operator_browser.get(path)).content == CSV
    for state, words in ((JobState.DISCARDED, "It failed"), (JobState.CANCELLED, "It was cancelled")):
        assert words in await shown(state=state)


async def test_without_an_export_of_the_audit_the_page_says_so(operator_browser: Browser) -> None:
    assert "You have none yet" in (await operator_browser.get("/console/audit/export")).text


async def test_an_export_of_the_audit_is_followed(
    operator_browser: Browser, export_page: str, database: Database
) -> None:
    job = await newest(database)
    watched = [Watched("audit-export", about, None) for about in (str(job.id), str(new_id()), "x")]
    async with database.unit_of_work(read_only=True) as session:
        contexts = await read_audit_exports(session, watched)

    assert [(one.about, context["job"].id) for one, context in contexts.items()] == [(str(job.id), job.id)]
