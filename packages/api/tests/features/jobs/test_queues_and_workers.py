"""Queues and workers as an operator sees them, and steers them."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app_api.console.operators.workers import MOST
from app_api.lifespan import State
from app_db import Database
from app_db.jobs import control
from app_db.models import AuditEvent, JobQueue, JobState, JobWorker
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow
from packages.api.tests.conftest import OUR_FORM, Browser, MakeJob

EVIL = "<b>&/?#"


async def settings_of(database: Database, name: str) -> JobQueue:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(JobQueue).where(JobQueue.name == name))).one()


async def test_a_worker_with_very_many_jobs_lists_some(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    shown = await make_job(JobState.DISPATCHED)
    async with database.unit_of_work() as session:
        held = [shown, *(new_id() for _ in range(MOST + 6))]
        about = {"host": "host", "pid": 7, "queues": ["mail"], "concurrency": 500}
        session.add(JobWorker(id=new_id(), held_job_ids=held, **about))

    page = (await operator_browser.get("/console/workers")).text

    assert f"jobs/{shown}" in page
    assert "7 more jobs are in hand" in page


@pytest.mark.usefixtures("make_job")
async def test_a_system_without_queues_and_workers_says_so(operator_browser: Browser) -> None:
    assert "No queue has" in (await operator_browser.get("/console/queues")).text
    assert "No worker runs" in (await operator_browser.get("/console/workers")).text


async def test_a_queue_is_paused_resumed_and_limited_whatever_its_name(
    operator_browser: Browser, make_job: MakeJob, database: Database
) -> None:
    await make_job(queue=EVIL)

    for action, limit in (("pause", None), ("limit", "3"), ("resume", None), ("pause", None), ("limit", "")):
        fields = {"queue": EVIL} if limit is None else {"queue": EVIL, "max_running": limit}
        response = await operator_browser.client.post(f"/console/queues/{action}", data=fields, headers=OUR_FORM)
        assert response.headers["Location"].startswith("/console/queues?done=queue-"), action
        if limit:
            assert 'value="3"' in (await operator_browser.get("/console/queues")).text

    queue = await settings_of(database, EVIL)
    page = (await operator_browser.get("/console/queues")).text
    assert queue.paused_at is not None
    assert queue.max_running is None
    assert EVIL not in page
    assert "ago</time> by account-" in page


async def test_who_pauses_a_queue_is_audited(operator_browser: Browser, make_job: MakeJob, database: Database) -> None:
    await make_job()

    await operator_browser.post("/console/queues/pause", queue="default")
    await operator_browser.post("/console/queues/limit", queue="default", max_running="7")

    async with database.unit_of_work(read_only=True) as session:
        rows = (await session.scalars(select(AuditEvent).where(AuditEvent.event.like("queue%")))).all()
    assert [(row.event, row.details) for row in rows] == [
        ("queue_paused", {"queue": "default"}),
        ("queue_limited", {"queue": "default", "max_running": 7}),
    ]
    assert all(row.actor_id for row in rows)


@pytest.mark.parametrize("max_running", ["0", "-1", "many", "2147483648"])
async def test_a_limit_that_is_none_is_refused(operator_browser: Browser, make_job: MakeJob, max_running: str) -> None:
    await make_job()

    response = await operator_browser.post("/console/queues/limit", queue="default", max_running=max_running)

    assert response.status_code == 422


@pytest.mark.parametrize(
    ("by", "shown"),
    [("shell", "a command on a server"), (str(new_id()), "by 0"), ("cron", "by cron"), (None, "ago<")],
    ids=["shell", "account", "cron", "before"],
)
async def test_who_paused_a_queue_is_shown_whoever_it_was(
    operator_browser: Browser, make_job: MakeJob, database: Database, by: str | None, shown: str
) -> None:
    await make_job()
    async with database.unit_of_work() as session:
        await control.pause(session, "default", by=by)

    assert shown in (await operator_browser.get("/console/queues")).text


async def test_nothing_else_is_done_to_a_queue(operator_browser: Browser) -> None:
    assert (await operator_browser.post("/console/queues/delete", queue="default")).status_code == 422


async def test_a_queue_that_nobody_uses_is_not_found(operator_browser: Browser) -> None:
    for action in ("pause", "resume", "limit"):
        assert (await operator_browser.post(f"/console/queues/{action}", queue="misspelt")).status_code == 404


async def test_workers_are_shown_with_what_they_have_in_hand(
    operator_browser: Browser, make_job: MakeJob, database: Database, state: State
) -> None:
    alive, draining, silent = new_id(), new_id(), new_id()
    async with database.unit_of_work() as session:
        for worker_id, seconds in ((alive, 0), (draining, 0), (silent, 99)):
            times = {"beat_at": utcnow() - timedelta(seconds=seconds), "started_at": utcnow()}
            about = {"host": EVIL, "pid": 7, "queues": ["mail"], "concurrency": 10, "draining": worker_id == draining}
            session.add(JobWorker(id=worker_id, **about, **times))
    here = {"worker_id": alive, "started_at": func.now(), "progress": {"done": 1, "of": 4}}
    leased, in_tx = await make_job(JobState.EXECUTING, **here), await make_job(JobState.DISPATCHED)
    lost, ended = await make_job(JobState.EXECUTING, worker_id=silent), await make_job(JobState.COMPLETED)
    other = await make_job(JobState.EXECUTING, **here)
    async with database.unit_of_work() as session:
        held = {"held_job_ids": [leased, in_tx, lost, ended], "version": "9.8.7", "loop_lag": 1.25}
        await session.execute(update(JobWorker).where(JobWorker.id == alive).values(held))
        await session.execute(update(JobWorker).where(JobWorker.id == draining).values(loop_lag=0))

    with assert_queries(state["database"], max=3):  # who asks, the workers, their jobs
        page = (await operator_browser.get("/console/workers")).text

    assert EVIL not in page
    assert [str(job) in page for job in (leased, in_tx, lost, ended, other)] == [True, True, False, False, False]
    for shown in ("9.8.7", 'warning">late by 1.2 s', "on time"):
        assert shown in page, shown
    for shown in ("alive", "draining", "silent", 'value="25"', "Its jobs are delivered again"):
        assert shown in page, shown
