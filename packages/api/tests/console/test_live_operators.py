"""What the open pages of operators are sent: the parts that these pages were loaded with."""

import pytest
from fastapi import FastAPI
from sqlalchemy import delete, update

from app_api.lifespan import State
from app_auth.testing import Account
from app_db import Database
from app_db.models import Job, JobState
from app_db.paging import Cursor
from app_db.testing.queries import assert_queries
from app_db.types import new_id
from packages.api.tests.conftest import Browser, MakeJob
from packages.api.tests.console.live_parts import marks_of, texts_of


async def test_a_job_is_followed_with_its_progress_and_errors(
    app: FastAPI, make_job: MakeJob, database: Database, operator_browser: Browser
) -> None:
    running = await make_job(JobState.EXECUTING, progress={"done": 1, "of": 4}, error="no <b>route</b>")
    done, gone = await make_job(JobState.COMPLETED), new_id()

    with assert_queries(database, max=4):
        texts = await texts_of(app, database, f"job:{running}", f"job:{done}", f"job:{gone}", "job:none")
    with assert_queries(database, max=1):
        results = await texts_of(app, database, f"job-result:{done}", f"job-result:{gone}", "job-result:none")

    assert set(texts) == {f"job:{running}", f"job:{done}"}
    assert set(results) == {f"job-result:{done}"}
    assert "executing" in texts[f"job:{running}"]
    assert "<h2>Facts</h2>" in texts[f"job:{done}"]
    assert 'value="25"' in texts[f"job:{running}"]
    assert "no &lt;b&gt;route" in texts[f"job:{running}"]
    assert "Completed" in texts[f"job:{done}"]
    assert f'data-live="job:{done}"' in (await operator_browser.get(f"/console/jobs/{done}")).text


async def test_what_the_attempts_of_a_job_have_committed_is_shown_and_followed(
    app: FastAPI, make_job: MakeJob, database: Database, operator_browser: Browser
) -> None:
    job_id = await make_job(JobState.EXECUTING)
    steps = [{"name": "charge <1>", "result": {"receipt": "<b>"}}, {"name": "ship", "result": None}]
    async with database.sessions.begin() as session:
        await session.execute(update(Job).where(Job.id == job_id).values(steps=steps, cursor={"last": 5}))

    page = (await operator_browser.get(f"/console/jobs/{job_id}")).text
    texts = await texts_of(app, database, f"job-result:{job_id}")

    for shown in (page, texts[f"job-result:{job_id}"]):
        assert "charge &lt;1&gt;" in shown
        assert "&lt;b&gt;" in shown
        assert "&#34;last&#34;: 5" in shown


async def test_the_errors_of_a_job_are_followed_with_their_traces(
    app: FastAPI, make_job: MakeJob, database: Database, operator_browser: Browser
) -> None:
    job_id, fine = await make_job(JobState.RETRYABLE, error="no <b>route</b>"), await make_job()
    page = (await operator_browser.get(f"/console/jobs/{job_id}")).text

    with assert_queries(database, max=1):
        texts = await texts_of(app, database, f"job-errors:{job_id}", f"job-errors:{fine}", "job-errors:none")

    assert f"job-errors:{job_id}" in marks_of(page)
    assert "Traceback: no &lt;b&gt;route" in texts[f"job-errors:{job_id}"]
    assert 'id="error-1"' in texts[f"job-errors:{job_id}"]
    assert 'href="#error-1"' in page
    assert texts[f"job-errors:{fine}"].strip() == ""
    assert "job-errors:none" not in texts


async def test_a_page_says_when_its_buttons_no_longer_fit_the_job(
    app: FastAPI, make_job: MakeJob, database: Database, operator_browser: Browser
) -> None:
    job_id, gone = await make_job(JobState.EXECUTING), new_id()
    [mark] = [mark for mark in marks_of((await operator_browser.get(f"/console/jobs/{job_id}")).text) if "acts" in mark]
    wrong = [f"job-acts:{gone},available", f"job-acts:{job_id},none", "job-acts:x,available", f"job-acts:{job_id}"]

    with assert_queries(database, max=1):
        before = await texts_of(app, database, mark, *wrong)
    async with database.unit_of_work() as session:
        await session.execute(update(Job).where(Job.id == job_id).values(state=JobState.RETRYABLE))
    after = await texts_of(app, database, mark)

    assert {each: text.strip() for each, text in before.items()} == {mark: ""}
    assert f'href="/console/jobs/{job_id}"' in after[mark]


async def test_the_rows_and_counts_of_a_list_are_followed_for_all_pages_by_five_queries(
    app: FastAPI, make_job: MakeJob, database: Database, operator_browser: Browser, ada: Account
) -> None:
    waiting, running = (
        await make_job(owner_id=ada.id),
        await make_job(JobState.EXECUTING, progress={"done": 1, "of": 4}),
    )
    page = (await operator_browser.get("/console/jobs?queue=default")).text
    marks = marks_of(page)
    async with database.unit_of_work() as session:
        await session.execute(update(Job).where(Job.id == waiting).values(state=JobState.DISPATCHED))
        await session.execute(delete(Job).where(Job.id == running))
    await make_job(JobState.DISCARDED)
    for _ in range(2):
        await make_job(queue="other")

    wrong = ["job-counts:state=none", "newer-jobs:queue=default", "newer-jobs:first=1", "job-rows:", "job-rows:x,y"]
    others = ["job-counts:queue=other", f"newer-jobs:first={waiting}"]
    with assert_queries(database, max=5):
        texts = await texts_of(app, database, *marks, *others, *wrong)

    rows, counts = next(texts[mark] for mark in marks if "rows" in mark), texts["job-counts:queue=default"]
    assert "dispatched" in rows
    assert ada.email in rows
    assert "This job has been deleted" in rows
    assert 'discarded <b class="of-text-discarded">1</b>' in counts
    assert 'available <b class="">2</b>' in texts["job-counts:queue=other"]
    newer = {mark: text for mark, text in texts.items() if mark.startswith("newer")}
    assert [text.split(">")[1][:19] for text in newer.values()] == ["1 newer job matches", "3 newer jobs match:"]
    assert not set(wrong[:3]) & set(texts)


@pytest.mark.parametrize("query", ["error=boom", "age=older-1h", "after="])
async def test_a_list_that_cannot_tell_whether_newer_jobs_match_does_not_say_so(
    operator_browser: Browser, make_job: MakeJob, query: str
) -> None:
    job_id = await make_job(error="boom")

    page = (await operator_browser.get(f"/console/jobs?{query}{Cursor(job_id) if query == 'after=' else ''}")).text

    assert "newer-jobs:" not in page


@pytest.mark.parametrize(
    ("page", "marks", "shown"),
    [
        ("overview", ["overview:hour", "overview:day", "overview:other"], "Jobs that ended"),
        ("queues", ["queues:"], "At most at once"),
        ("workers", ["workers:"], "No worker runs"),
        ("crons", ["crons:"], "No worker has run yet"),
    ],
)
async def test_pages_of_the_system_are_followed(
    app: FastAPI,
    make_job: MakeJob,
    database: Database,
    operator_browser: Browser,
    state: State,
    *,
    page: str,
    marks: list[str],
    shown: str,
) -> None:
    await make_job()

    texts = await texts_of(app, database, *marks)

    assert set(texts) == {mark for mark in marks if not mark.endswith("other")}
    assert all(shown in text for text in texts.values())
    assert f'data-live="{marks[0]}"' in (await operator_browser.get(f"/console/{page}")).text
