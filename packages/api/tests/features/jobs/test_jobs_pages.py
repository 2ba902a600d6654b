"""Jobs as an operator finds them, and acts on many."""

from datetime import timedelta
from html import unescape
from urllib.parse import urlencode
from uuid import UUID

import pytest
from sqlalchemy import select, text

from app_api.features.jobs import operator_bulk_pages as jobs
from app_api.features.jobs import service
from app_api.features.jobs.job_query import PER_PAGE
from app_api.lifespan import State
from app_auth.testing import Account
from app_db import Database
from app_db.jobs import counting
from app_db.models import AuditEvent, Job, JobState
from app_db.testing.queries import assert_queries
from app_db.types import first_id_at, new_id, utcnow
from packages.api.tests.conftest import Browser, MakeJob

EVIL = "<img src=x onerror=alert(1)>"


async def states_of(database: Database) -> dict[UUID, JobState]:
    async with database.unit_of_work(read_only=True) as session:
        return {row.id: row.state for row in await session.execute(select(Job.id, Job.state))}


async def test_the_list_shows_jobs_with_their_accounts_and_counts(
    operator_browser: Browser, make_job: MakeJob, ada: Account, state: State
) -> None:
    await make_job(JobState.DISCARDED, owner_id=ada.id, kind=EVIL)
    await make_job(JobState.EXECUTING, owner_id=new_id(), progress={"done": 1, "of": 2})
    await make_job(JobState.AVAILABLE)

    with assert_queries(state["database"], max=5):
        page = (await operator_browser.get("/console/jobs")).text

    assert ada.email in page
    assert "gone: " in page
    assert EVIL not in page
    assert 'value="50"' in page
    assert 'discarded <b class="of-text-discarded">1</b>' in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"state": "discarded"}, 1), ({"state": "", "kind": "", "age": ""}, 3), ({"kind": " mail "}, 1),
        ({"queue": "slow"}, 1), ({"error": "No Route"}, 1), ({"error": "misspelt"}, 0), ({"age": "1h"}, 2),
        ({"age": "older-1h"}, 1), ({"owner": "nobody@example.com"}, 0), ({"owner": "no address"}, 0),
    ],
)  # fmt: skip
async def test_the_address_bar_holds_the_filter(
    operator_browser: Browser, make_job: MakeJob, query: dict[str, str], found: int
) -> None:
    await make_job(JobState.DISCARDED, error="no route to host")
    await make_job(kind="mail", queue="slow")
    old = UUID(int=first_id_at(utcnow() - timedelta(hours=3)).int | 7)
    await make_job(id=old)

    page = (await operator_browser.get(f"/console/jobs?{urlencode(query)}")).text

    assert page.count('name="id"') == found
    assert ("No job matches" in page) == (found == 0)


async def test_the_jobs_of_an_account_are_found_by_its_address_or_id(
    operator_browser: Browser, make_job: MakeJob, ada: Account
) -> None:
    await make_job(owner_id=ada.id)
    await make_job(owner_id=new_id())

    for owner in (ada.email, str(ada.id)):
        page = (await operator_browser.get(f"/console/jobs?{urlencode({'owner': owner})}")).text
        assert page.count('name="id"') == 1


async def test_pages_follow_each_other_with_the_filter(operator_browser: Browser, make_job: MakeJob) -> None:
    for _ in range(PER_PAGE + 1):
        await make_job(kind="mail")

    first = (await operator_browser.get("/console/jobs?kind=mail")).text
    link = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = (await operator_browser.get(link)).text

    assert "kind=mail" in link
    assert (first.count('name="id"'), second.count('name="id"')) == (PER_PAGE, 1)
    assert "Newest" in second


async def test_the_number_is_shown_before_anything_is_done(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    failed = [await make_job(JobState.DISCARDED, kind="mail") for _ in range(3)]
    other = await make_job(JobState.DISCARDED, kind="sums")

    asked = (await operator_browser.get("/console/jobs/act?action=retry&kind=mail")).text
    before = await states_of(database)
    done = await operator_browser.post("/console/jobs/act", action="retry", kind="mail")

    assert "Retry 3 jobs?" in asked
    assert before[failed[0]] is JobState.DISCARDED
    after = await states_of(database)
    assert [after[job_id] for job_id in failed] == [JobState.AVAILABLE] * 3
    assert after[other] is JobState.DISCARDED
    assert done.headers["Location"] == "/console/jobs?kind=mail&done=jobs-retried"


async def test_who_acts_on_many_jobs_is_audited(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    await make_job(JobState.AVAILABLE, kind="mail")

    await operator_browser.post("/console/jobs/act", action="cancel", kind="mail")

    async with database.unit_of_work(read_only=True) as session:
        [row] = await session.scalars(select(AuditEvent).where(AuditEvent.event == "jobs_acted_on"))
    assert row.actor_id is not None
    assert row.details.items() >= {"action": "cancel", "count": 1, "kind": "mail"}.items()


async def test_ticked_jobs_alone_are_acted_on(operator_browser: Browser, make_job: MakeJob, database: Database) -> None:
    ticked, left = [await make_job() for _ in range(2)], await make_job()
    ids = "&".join(f"id={job_id}" for job_id in ticked)

    page = (await operator_browser.get(f"/console/jobs/act?action=cancel&{ids}")).text
    both = ",".join(map(str, ticked))
    response = await operator_browser.post("/console/jobs/act", action="cancel", id=both)

    assert f'value="{both}"' in page
    assert "Of the 2 that you ticked, 2 can" in page
    assert response.headers["Location"] == "/console/jobs?done=jobs-cancelled"
    states = await states_of(database)
    assert [states[job_id] for job_id in (*ticked, left)] == [JobState.CANCELLED] * 2 + [JobState.AVAILABLE]


async def test_nothing_is_done_without_a_choice(operator_browser: Browser, make_job: MakeJob) -> None:
    await make_job()

    assert "at least a state" in (await operator_browser.get("/console/jobs/act?action=cancel")).text
    assert (await operator_browser.post("/console/jobs/act", action="cancel")).status_code == 422


@pytest.mark.parametrize(("action", "job_state"), [("discard", JobState.AVAILABLE), ("delete", JobState.COMPLETED)])
async def test_what_cannot_be_undone_for_many_jobs_asks_for_the_password_again(
    operator_browser: Browser, make_job: MakeJob, database: Database, action: str, job_state: JobState
) -> None:
    await make_job(job_state, kind="mail")
    fresh = await operator_browser.get(f"/console/jobs/act?action={action}&kind=mail")
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE user_sessions SET created_at = created_at - interval '1 hour'"))

    asked = await operator_browser.get(f"/console/jobs/act?action={action}&kind=mail")
    acted = await operator_browser.post("/console/jobs/act", action=action, kind="mail")

    assert f"{action.capitalize()} 1 job?" in fresh.text
    assert asked.headers["Location"].startswith("/console/confirm?next=")
    assert acted.headers["Location"].startswith("/console/confirm")
    assert set((await states_of(database)).values()) == {job_state}


async def test_work_on_many_jobs_that_is_begun_anew_asks_for_the_password_again(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    job_id = await make_job(JobState.DISCARDED, kind="jobs.bulk")
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE user_sessions SET created_at = created_at - interval '1 hour'"))

    alone = await operator_browser.post(f"/console/jobs/{job_id}/retry")
    ticked = await operator_browser.post("/console/jobs/act", action="retry", id=str(job_id))

    for answer in (alone, ticked):
        assert answer.headers["Location"].startswith("/console/confirm")
    assert await states_of(database) == {job_id: JobState.DISCARDED}


async def test_jobs_that_come_after_the_number_was_shown_are_left_alone(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    seen = await make_job(kind="mail")
    page = (await operator_browser.get("/console/jobs/act?action=cancel&kind=mail")).text
    asked_at = unescape(page.split('name="asked_at" value="')[1].split('"')[0])
    later = await make_job(kind="mail")

    await operator_browser.post("/console/jobs/act", action="cancel", kind="mail", asked_at=asked_at)

    states = await states_of(database)
    assert (states[seen], states[later]) == (JobState.CANCELLED, JobState.AVAILABLE)
    for wrong in ("yesterday", "9999-12-31T00:00:00Z", "2026-01-01T00:00:00"):
        refused = await operator_browser.post("/console/jobs/act", action="cancel", kind="mail", asked_at=wrong)
        assert refused.status_code == 422


async def test_many_jobs_are_acted_on_by_a_job_whose_page_shows_how_far_it_is(
    operator_browser: Browser, make_job: MakeJob, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "AT_ONCE", 2)
    monkeypatch.setattr(jobs, "MOST_COUNTED", 2)
    made = [await make_job(kind="mail") for _ in range(3)]

    page = (await operator_browser.get("/console/jobs/act?action=cancel&kind=mail")).text
    started = await operator_browser.post("/console/jobs/act", action="cancel", kind="mail")
    shown = await operator_browser.get(started.headers["Location"])

    assert "Cancel 2+ jobs?" in page
    assert "A job does it, in batches" in page
    assert "jobs.bulk" in shown.text
    assert "Its bar shows how far it is" in shown.text
    assert "Run again" not in shown.text
    states = await states_of(database)
    assert {states[job_id] for job_id in made} == {JobState.AVAILABLE}


async def test_a_number_says_that_not_all_jobs_were_looked_at_and_a_job_looks_at_all(
    operator_browser: Browser, make_job: MakeJob, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "MOST_LOOKED_AT", 2)
    for _ in range(3):
        await make_job(kind="mail")

    page = (await operator_browser.get("/console/jobs/act?action=cancel&kind=seldom")).text
    started = await operator_browser.post("/console/jobs/act", action="cancel", kind="seldom")

    assert "Cancel 0+ jobs?" in page
    assert "A job does it, in batches" in page
    assert "disabled" not in page.split("<form")[-1]
    assert "done=jobs-bulk" in started.headers["Location"]


async def test_a_job_that_has_ended_is_deleted_from_its_page(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    job_id, other = await make_job(JobState.DISCARDED, error="boom"), await make_job(JobState.AVAILABLE)

    page = (await operator_browser.get(f"/console/jobs/{job_id}")).text
    link = unescape(page.split("Delete…")[0].rsplit('href="', 1)[1].split('"')[0])
    asked = await operator_browser.get(link)
    done = await operator_browser.post("/console/jobs/act", action="delete", id=str(job_id))

    assert "Delete 1 job?" in asked.text
    assert "cannot be undone" in asked.text
    assert done.headers["Location"] == "/console/jobs?done=jobs-deleted"
    assert set(await states_of(database)) == {other}
    assert "Delete…" not in (await operator_browser.get(f"/console/jobs/{other}")).text
