"""Crons as an operator sees them and runs them, in the console and over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
import pytest_asyncio
from httpx2 import AsyncClient
from sqlalchemy import select, update

from app_api.lifespan import State
from app_api.testing import SignedIn, assert_problem
from app_db import Database
from app_db.jobs.crons import CronDescription, cron_states, describe_crons, note_job
from app_db.models import AuditEvent, JobCron, JobState
from app_db.testing.queries import assert_queries
from packages.api.tests.conftest import Browser, MakeJob

EVIL = "<b>&/?#"
TICK = datetime(2030, 1, 7, 2, 30, tzinfo=UTC)


@pytest_asyncio.fixture(loop_scope="session")
async def cron(make_job: MakeJob, database: Database) -> str:
    """A cron whose worker has described it."""
    ticks = [TICK + timedelta(days=day) for day in range(3)]
    async with database.unit_of_work() as session:
        await cron_states(session, [EVIL, "of.before"])
        await describe_crons(session, [CronDescription(EVIL, "30 2 * * 1-5", "Europe/Berlin", EVIL, EVIL, ticks)])
    return EVIL


async def row_of(database: Database, name: str) -> JobCron:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(JobCron).where(JobCron.name == name))).one()


async def change(database: Database, **values: Any) -> None:  # Any: of columns
    async with database.unit_of_work() as session:
        await session.execute(update(JobCron).where(JobCron.name == EVIL).values(values))


async def ran(database: Database, make_job: MakeJob) -> UUID:
    job_id = await make_job(JobState.COMPLETED)
    async with database.unit_of_work() as session:
        await note_job(session, EVIL, job_id, kind="reports.nightly", queue="default")
    return job_id


async def test_a_cron_is_shown_with_its_schedule_its_last_job_and_its_next_ticks(
    operator_browser: Browser, cron: str, make_job: MakeJob, database: Database, state: State
) -> None:
    job_id = await ran(database, make_job)

    with assert_queries(state["database"], max=4):  # who asks, the crons in code and in the table, their jobs
        page = (await operator_browser.get("/console/crons")).text

    assert EVIL not in page
    for shown in ("at 02:30, Monday to Friday", "30 2 * * 1-5", "Europe/Berlin", f"jobs/{job_id}", "completed"):
        assert shown in page, shown
    for shown in ("Mon 07 Jan, 02:30 UTC", "Tue 08 Jan", "Wed 09 Jan", "reports.nightly", "Run now", "not known yet"):
        assert shown in page, shown


async def test_a_run_by_hand_is_no_tick(
    operator_browser: Browser, cron: str, make_job: MakeJob, database: Database
) -> None:
    await ran(database, make_job)
    before = (await operator_browser.get("/console/crons")).text

    await change(database, last_tick_at=TICK)

    assert before.count("none since") == 2
    assert (await operator_browser.get("/console/crons")).text.count("none since") == 1


async def test_a_job_that_retention_has_deleted_is_no_link(
    operator_browser: Browser, cron: str, database: Database
) -> None:
    await change(database, last_job_id=UUID(int=1))

    assert "its job is deleted by now" in (await operator_browser.get("/console/crons")).text


async def test_a_cron_that_was_removed_from_the_code_is_recognised_and_cannot_be_run(
    operator_browser: Browser, cron: str, database: Database
) -> None:
    await change(database, seen_at=JobCron.seen_at - timedelta(minutes=6))

    page = (await operator_browser.get("/console/crons")).text
    refused = await operator_browser.post("/console/crons/run", cron=cron)

    assert "no worker has it" in page
    assert "Run now</" not in page.replace("Run now</span></th>", "")
    assert refused.status_code == 409
    assert "No worker has this cron" in refused.text
    assert (await row_of(database, cron)).run_requested_at is None


async def test_a_cron_is_run_now_whatever_its_name(operator_browser: Browser, cron: str, database: Database) -> None:
    done = (await operator_browser.post("/console/crons/run", cron=cron)).headers["Location"]
    page = (await operator_browser.get(done)).text

    assert "within five seconds" in page
    assert "asked for" in page
    assert (await row_of(database, cron)).run_requested_at is not None


async def test_who_runs_a_cron_is_audited(operator_browser: Browser, cron: str, database: Database) -> None:
    await operator_browser.post("/console/crons/run", cron=cron)

    async with database.unit_of_work(read_only=True) as session:
        [row] = await session.scalars(select(AuditEvent).where(AuditEvent.event == "cron_run_requested"))
    assert row.details == {"cron": cron}
    assert row.actor_id is not None


async def test_operators_list_and_run_crons_over_http(
    client: AsyncClient, operator: SignedIn, cron: str, database: Database
) -> None:
    listed = await client.get("/jobs/crons", headers=operator.headers)
    asked = await client.post(f"/jobs/crons/{quote(cron, safe='')}/run", headers=operator.headers)

    shown, of_before = listed.json()["items"]
    assert (shown["name"], shown["expression"], shown["is_served"]) == (cron, "30 2 * * 1-5", True)
    assert shown["next_ticks"][0] == "2030-01-07T02:30:00Z"
    assert (of_before["name"], of_before["expression"], of_before["is_served"]) == ("of.before", None, False)
    assert asked.status_code == 204
    assert (await row_of(database, cron)).run_requested_at is not None


@pytest.mark.parametrize(("name", "status", "code"), [
    ("misspelt", 404, "cron_not_found"), ("of.before", 409, "cron_not_served"),
])  # fmt: skip
async def test_a_cron_that_no_worker_has_is_refused_over_http(
    client: AsyncClient, operator: SignedIn, cron: str, *, name: str, status: int, code: str
) -> None:
    refused = await client.post(f"/jobs/crons/{name}/run", headers=operator.headers)

    assert_problem(refused, status, code)
