"""Jobs as an operator finds them, and acts on many."""

from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID

import pytest
from sqlalchemy import select, text

from app_api.features.jobs import operator_pages as jobs
from app_api.lifespan import State
from app_auth.testing import Account
from app_db import Database
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
    for _ in range(jobs.PER_PAGE + 1):
        await make_job(kind="mail")

    first = (await operator_browser.get("/console/jobs?kind=mail")).text
    link = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = (await operator_browser.get(link)).text

    assert "kind=mail" in link
    assert (first.count('name="id"'), second.count('name="id"')) == (jobs.PER_PAGE, 1)
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
    assert row.details == {"action": "cancel", "count": 1, "kind": "mail"}


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


async def test_discarding_many_jobs_asks_for_the_password_again(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    await make_job(kind="mail")
    fresh = await operator_browser.get("/console/jobs/act?action=discard&kind=mail")
    async with database.unit_of_work() as session:
        await session.execute(text("UPDATE user_sessions SET created_at = created_at - interval '1 hour'"))

    asked = await operator_browser.get("/console/jobs/act?action=discard&kind=mail")
    acted = await operator_browser.post("/console/jobs/act", action="discard", kind="mail")

    assert "Discard 1 job?" in fresh.text
    assert asked.headers["Location"].startswith("/console/confirm?next=")
    assert acted.headers["Location"].startswith("/console/confirm")
    assert set((await states_of(database)).values()) == {JobState.AVAILABLE}


async def test_more_than_a_thousand_jobs_are_done_in_steps(
    operator_browser: Browser, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "AT_ONCE", 2)
    monkeypatch.setattr(jobs, "MOST_COUNTED", 2)
    for _ in range(3):
        await make_job(kind="mail")

    page = (await operator_browser.get("/console/jobs/act?action=cancel&kind=mail")).text
    first = await operator_browser.post("/console/jobs/act", action="cancel", kind="mail")
    second = await operator_browser.post("/console/jobs/act", action="cancel", kind="mail")

    assert "Cancel 2+ jobs?" in page
    assert "At most 2 are done at once" in page
    assert first.headers["Location"].endswith("done=jobs-go-on")
    assert second.headers["Location"].endswith("done=jobs-cancelled")
