"""Queues and workers as an operator sees them, and steers them."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from app_api.lifespan import State
from app_db import Database
from app_db.models import AuditEvent, JobQueue, JobState, JobWorker
from app_db.testing.queries import assert_queries
from app_db.types import new_id, utcnow
from packages.api.tests.conftest import OUR_FORM, Browser, MakeJob

EVIL = "<b>&/?#"


async def settings_of(database: Database, name: str) -> JobQueue:
    async with database.unit_of_work(read_only=True) as session:
        return (await session.scalars(select(JobQueue).where(JobQueue.name == name))).one()


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
    assert "the audit says by whom" in page


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
    await make_job(JobState.EXECUTING, worker_id=alive, started_at=func.now(), progress={"done": 1, "of": 4})

    with assert_queries(state["database"], max=4):
        page = (await operator_browser.get("/console/workers")).text

    assert EVIL not in page
    for shown in ("alive", "draining", "silent", 'value="25"', "Its jobs are delivered again"):
        assert shown in page, shown
