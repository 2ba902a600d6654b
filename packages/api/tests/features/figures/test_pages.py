"""The first page of an operator: what fails since when, what waits, what runs."""

from datetime import timedelta

import pytest
from sqlalchemy import func

from app_api.lifespan import State
from app_db import Database
from app_db.features.figures.models import JobFigures, Span
from app_db.features.figures.repository import FigureRepository, hour_of
from app_db.models import AuditEvent, JobQueue, JobState, JobWorker
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow
from packages.api.tests.conftest import Browser, MakeJob

EVIL = "<script>alert(1)</script>"


@pytest.mark.usefixtures("make_job")
async def test_an_empty_system_says_so(operator_browser: Browser) -> None:
    response = await operator_browser.get("/console/overview")

    for text in ("No attempt has failed", "Nothing is counted yet", "No worker runs", "No queue has"):
        assert text in response.text


async def test_what_fails_since_when_and_for_whom_is_at_the_top(operator_browser: Browser, make_job: MakeJob) -> None:
    job_id = await make_job(JobState.DISCARDED, kind="invoices.send", error=f"no route {EVIL}", owner_id=new_id())

    page = (await operator_browser.get("/console/overview")).text

    failing = page[page.index("What fails") : page.index("Jobs that ended")]
    assert f"/console/jobs/{job_id}" in failing
    assert "invoices.send" in failing
    assert " ago</time>" in failing
    assert "1 of 1 job" in failing
    assert EVIL not in page
    assert "&lt;script&gt;" in failing


async def test_charts_show_what_ended_and_who_signed_in(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    ended = utcnow() - timedelta(minutes=7)
    for state, kind in ((JobState.COMPLETED, "mail"), (JobState.COMPLETED, "mail"), (JobState.CANCELLED, "sums")):
        await make_job(state, kind=kind, finished_at=ended, started_at=ended - timedelta(seconds=0.7))
    async with database.unit_of_work() as session:
        session.add(AuditEvent(event="sign_in_failed", happened_at=ended))
    for _ in range(8):
        async with database.unit_of_work() as session:
            await FigureRepository(session).count()

    page = (await operator_browser.get("/console/overview")).text

    assert 'aria-label="Jobs that ended: 2 completed, 0 failed, 0 discarded, 1 cancelled"' in page
    assert "1 refused" in page
    assert f"{ended:%H:%M}: 2 completed" in page
    assert "750 ms" in page
    assert "<style" not in page
    assert "style=" not in page


@pytest.mark.parametrize("window", ["day", "fortnight"])
async def test_longer_windows_add_the_minutes_of_this_hour_to_the_hours(
    operator_browser: Browser, database: Database, window: str
) -> None:
    hour = hour_of(utcnow())
    async with database.unit_of_work() as session:
        for span, began_at in ((Span.HOUR, hour - timedelta(hours=1)), (Span.MINUTE, hour - timedelta(minutes=1)),
                               (Span.MINUTE, hour)):  # fmt: skip
            jobs = [["mail", "completed", 5, {}]]
            session.add(JobFigures(span=span, began_at=began_at, jobs=jobs, queues={}, events={"deleted": 1}))

    page = (await operator_browser.get(f"/console/overview?window={window}")).text

    assert "10 completed" in page


async def test_a_window_without_hours_shows_the_minutes(operator_browser: Browser, database: Database) -> None:
    async with database.unit_of_work() as session:
        jobs = [["mail", "failed", 5, {}]]
        began_at = utcnow().replace(second=0, microsecond=0)
        session.add(JobFigures(span=Span.MINUTE, began_at=began_at, jobs=jobs, queues={}, events={}))

    assert "5 failed" in (await operator_browser.get("/console/overview?window=day")).text


@pytest.mark.parametrize(("window", "deepest"), [("hour", 9), ("day", 9)])
async def test_what_waited_is_charted_by_queue_with_what_waits_now(
    operator_browser: Browser, make_job: MakeJob, database: Database, window: str, deepest: int
) -> None:
    await make_job()
    minute = utcnow().replace(second=0, microsecond=0)
    async with database.unit_of_work() as session:
        for ago, queues in ((2, {EVIL: 9, "b": 3}), (1, {}), (0, {EVIL: 4, "b": 3, **dict.fromkeys("cdefg", 1)})):
            began_at = minute - timedelta(minutes=ago)
            session.add(JobFigures(span=Span.MINUTE, began_at=began_at, jobs=[], queues=queues, events={}))

    page = (await operator_browser.get(f"/console/overview?window={window}")).text

    chart = page[page.index('aria-label="Waiting:') : page.index('aria-label="Queues"')]
    evil = EVIL.replace("<", "&lt;").replace(">", "&gt;")
    told = chart.split(":", 1)[1].split('"')[0]
    assert told in {f" {count} {evil}, 3 b, 1 c, 1 d, 3 other queues" for count in (4, deepest)}
    assert f"{evil}</title>" not in chart
    assert EVIL not in page
    assert 'class="level-0"' in chart


async def test_queues_workers_and_running_jobs_are_shown_by_few_queries(
    operator_browser: Browser, make_job: MakeJob, database: Database, state: State
) -> None:
    await make_job(JobState.AVAILABLE, queue="mail")
    await make_job(JobState.AVAILABLE, queue="alone")
    await make_job(JobState.EXECUTING, kind="long.one", progress={"done": 1, "of": 4}, started_at=func.now())
    async with database.unit_of_work() as session:
        session.add(JobQueue(name="mail", paused_at=utcnow(), max_running=3))
        for draining, silent in ((False, 0), (True, 0), (False, 99)):
            times = {"beat_at": utcnow() - timedelta(seconds=silent), "started_at": utcnow()}
            about = {"host": EVIL, "pid": 7, "queues": ["mail"], "concurrency": 10, "draining": draining}
            session.add(JobWorker(id=new_id(), **about, **times))

    with assert_queries(state["database"], max=4):
        page = (await operator_browser.get("/console/overview")).text

    for text in ("paused", "0 of 3", "no worker", "alive", "draining", "silent", 'value="25"', "long.one"):
        assert text in page, text
    assert EVIL not in page
