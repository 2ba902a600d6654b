"""The export page: started by a form, followed live, downloaded; and the stream that follows it."""

import asyncio
from collections.abc import Collection
from threading import Event
from uuid import UUID

import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx2 import Response
from sqlalchemy import func, select, update

from app_api.console.fragments import Contexts, Fragment, Watched
from app_api.settings import ApiSettings
from app_auth.testing import Account
from app_db import Database, Session
from app_db.features.export.repository import ExportRepository
from app_db.models import Job, JobState
from packages.api.tests.conftest import Browser, OpenBrowser, app_of

pytestmark = pytest.mark.usefixtures("app")


@pytest.fixture
def stopping() -> Event:
    return Event()


@pytest.fixture
def app(api_settings: ApiSettings, stopping: Event) -> FastAPI:
    """An application that a test can stop."""
    return app_of(api_settings, stopping=stopping)


async def job_of(database: Database, account: Account) -> UUID:
    async with database.unit_of_work(read_only=True) as session:
        of_account = select(Job.id).where(Job.owner_id == account.id, Job.kind == "account.export")
        return (await session.scalars(of_account)).one()


async def set_job(database: Database, job_id: UUID, **values: object) -> None:
    async with database.unit_of_work() as session:
        await session.execute(update(Job).where(Job.id == job_id).values(**values))


@pytest_asyncio.fixture(loop_scope="session")
async def job_id(signed_in_browser: Browser, ada: Account, database: Database) -> UUID:
    """The export that Ada has asked for."""
    started = await signed_in_browser.post("/console/export")
    assert started.headers["Location"] == "/console/export"
    return await job_of(database, ada)


async def test_the_page_shows_the_newest_export_as_it_is(
    signed_in_browser: Browser, job_id: UUID, database: Database
) -> None:
    async def shown() -> str:
        return (await signed_in_browser.get("/console/export")).text

    assert "Waiting for a worker" in await shown()
    running = {"state": JobState.EXECUTING, "progress": {"done": 1, "of": 3, "step": "jobs"}}
    await set_job(database, job_id, **running)
    assert '<progress id="export-progress" value="1" max="3">' in await shown()
    for state, words in ((JobState.DISCARDED, "It failed."), (JobState.CANCELLED, "It was cancelled.")):
        await set_job(database, job_id, state=state, claim_at=None, finished_at=func.now())
        assert words in await shown()
        assert "Download" not in await shown()


async def test_a_finished_export_is_downloaded_by_its_owner_alone(
    signed_in_browser: Browser, operator_browser: Browser, job_id: UUID, ada: Account, database: Database
) -> None:
    path = f"/console/export/{job_id}/file"
    assert (await signed_in_browser.get(path)).status_code == 404
    async with database.unit_of_work() as session:
        await ExportRepository(session).add(job_id, 0, user_id=ada.id, content=b'{"account": {}}')
    await set_job(database, job_id, state=JobState.COMPLETED, claim_at=None, finished_at=func.now())

    assert f'href="{path}"' in (await signed_in_browser.get("/console/export")).text
    file = await signed_in_browser.get(path)

    assert (file.status_code, file.json()) == (200, {"account": {}})
    assert file.headers["Content-Disposition"] == 'attachment; filename="export.json"'
    assert (await operator_browser.get(path)).status_code == 404


async def test_without_an_export_the_page_says_so(signed_in_browser: Browser) -> None:
    assert "There is no export yet." in (await signed_in_browser.get("/console/export")).text


async def streamed(app: FastAPI, browser: Browser, stopping: Event, *marks: str) -> Response:
    """Watch until two polls have read what is watched, let the process stop, and return the whole stream."""
    polls = asyncio.Semaphore(0)

    async def count(session: Session, watched: Collection[Watched]) -> Contexts:
        polls.release()
        return {}

    app.state.console_hub.fragments["poll"] = Fragment("export_state.html", count)
    marks = (*marks, "poll:")  # a second poll begins when the first one has read and sent all parts
    watching = asyncio.ensure_future(browser.client.get("/console/live", params=[("watch", mark) for mark in marks]))
    async with asyncio.timeout(60):
        for _ in range(2):
            await polls.acquire()
        stopping.set()
        return await watching


async def test_an_export_is_followed(
    app: FastAPI, signed_in_browser: Browser, job_id: UUID, database: Database, stopping: Event
) -> None:
    await set_job(database, job_id, state=JobState.EXECUTING, progress={"done": 2, "of": 3, "step": "jobs"})

    response = await streamed(app, signed_in_browser, stopping, f"export:{job_id}", "export:x", f"export:{UUID(int=1)}")

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.text.count("event: fragment") == 1
    assert f'"mark": "export:{job_id}"' in response.text
    assert r"2 of 3 parts, now: jobs" in response.text


async def test_nobody_watches_the_export_of_another(
    app: FastAPI, operator_browser: Browser, job_id: UUID, stopping: Event
) -> None:
    response = await streamed(app, operator_browser, stopping, f"export:{job_id}")

    assert response.status_code == 200
    assert "event:" not in response.text


async def test_a_stream_says_that_nobody_is_signed_in(open_browser: OpenBrowser) -> None:
    response = await open_browser().get("/console/live?watch=export:x")

    assert response.status_code == 200
    assert response.text.startswith("event: reload\n")


async def test_a_stream_ends_with_its_session(
    signed_in_browser: Browser, open_browser: OpenBrowser, ada: Account
) -> None:
    watching = asyncio.ensure_future(signed_in_browser.client.get("/console/live?watch=export:x"))
    await asyncio.sleep(0.5)
    other = open_browser()
    await other.sign_in(ada)
    await other.post("/console/account/sessions/end-others")

    response = await asyncio.wait_for(watching, 10)

    assert response.text.rstrip().endswith('event: reload\ndata: ""')


async def test_once_it_stops_a_process_takes_no_stream(signed_in_browser: Browser, stopping: Event) -> None:
    stopping.set()

    assert (await signed_in_browser.get("/console/live?watch=export:x")).status_code == 503
