"""Batches and chains as an operator sees them in the console."""

from uuid import UUID

import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy import text

from app_api.features.jobs import operator_batch_pages
from app_api.lifespan import State
from app_db import Database
from app_db.features.retention.payloads import PruneSessions
from app_db.jobs.batches import enqueue_batch, enqueue_chain
from app_db.testing.queries import assert_queries
from app_db.types import new_id
from packages.api.tests.conftest import Browser
from packages.api.tests.console.live_parts import texts_of

END_ONE = text("""
    UPDATE jobs SET state = 'discarded', claim_at = NULL, finished_at = now()
    WHERE id = (SELECT id FROM jobs WHERE batch_id = :id AND finished_at IS NULL ORDER BY id LIMIT 1)
""")


@pytest_asyncio.fixture(loop_scope="session")
async def batch_id(database: Database) -> UUID:
    """A batch of three jobs, one of which has failed."""
    async with database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, [PruneSessions()] * 3)
        await session.execute(END_ONE, {"id": batch_id})
    return batch_id


async def states_of(database: Database) -> list[str]:
    async with database.unit_of_work(read_only=True) as session:
        return list((await session.scalars(text("SELECT state FROM jobs WHERE batch_id IS NOT NULL ORDER BY 1"))).all())


async def test_batches_are_listed_a_page_at_a_time(
    operator_browser: Browser, batch_id: UUID, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_batch_pages, "PER_PAGE", 1)
    async with database.unit_of_work() as session:
        await enqueue_chain(session, PruneSessions())

    first = (await operator_browser.get("/console/batches")).text
    link = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = (await operator_browser.get(link)).text

    assert "Chain" in first
    assert str(batch_id) not in first
    assert str(batch_id) in second
    assert "Newest" in second


async def test_a_batch_is_shown_with_its_failed_jobs(operator_browser: Browser, batch_id: UUID, state: State) -> None:
    with assert_queries(state["database"], max=4):
        page = (await operator_browser.get(f"/console/batches/{batch_id}")).text

    assert "3, of which 0 completed, 1 discarded, 0 cancelled" in page
    assert "Failed and running jobs" in page
    assert page.count('scope="row"') == 1
    assert (await operator_browser.get(f"/console/batches/{new_id()}")).status_code == 404


async def test_the_page_of_a_batch_is_followed(app: FastAPI, batch_id: UUID, database: Database) -> None:
    gone = new_id()

    texts = await texts_of(app, database, f"batch:{batch_id}", f"batch:{gone}", "batch:x")

    assert list(texts) == [f"batch:{batch_id}"]
    assert "1 discarded" in texts[f"batch:{batch_id}"]


async def test_a_job_leads_to_its_batch(operator_browser: Browser, batch_id: UUID, database: Database) -> None:
    async with database.unit_of_work(read_only=True) as session:
        job_id = (await session.scalars(text("SELECT id FROM jobs WHERE batch_id IS NOT NULL LIMIT 1"))).one()

    assert f"/console/batches/{batch_id}" in (await operator_browser.get(f"/console/jobs/{job_id}")).text


async def test_an_operator_retries_and_cancels_a_batch_as_a_whole(
    operator_browser: Browser, batch_id: UUID, database: Database
) -> None:
    retried = await operator_browser.post(f"/console/batches/{batch_id}/retry")
    after_retry = await states_of(database)
    cancelled = await operator_browser.post(f"/console/batches/{batch_id}/cancel")

    assert retried.headers["Location"] == f"/console/batches/{batch_id}?done=batch-retried"
    assert after_retry == ["available"] * 3
    assert cancelled.headers["Location"] == f"/console/batches/{batch_id}?done=batch-cancelled"
    assert await states_of(database) == ["cancelled"] * 3
