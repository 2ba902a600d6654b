"""Jobs, queues and workers as operators see them."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import InvalidRequestError

from app_db import Database, Session
from app_db.jobs.filters import JobFilter
from app_db.models import Job, JobCancellation, JobError, JobQueue, JobState, JobWorker
from app_db.repositories.job_counts import SILENCE
from app_db.repositories.job_views import FinishedCount, JobCount
from app_db.repositories.jobs import MAX_ERRORS, JobRepository
from app_db.types import aware, new_id

type MakeJob = Callable[..., Awaitable[UUID]]

MINUTE = timedelta(minutes=1)
FINAL = [JobState.COMPLETED, JobState.DISCARDED, JobState.CANCELLED]


@pytest.fixture
def make_job(database: Database) -> MakeJob:
    """Return a factory of committed jobs; those that are open have been due for a minute."""

    async def make(state: JobState = JobState.AVAILABLE, **columns: Any) -> UUID:  # Any: columns of Job
        job_id = new_id()
        times = {"finished_at": func.now()} if state in FINAL else {"claim_at": func.now() - MINUTE}
        defaults = {"id": job_id, "kind": "test", "payload": {}, "payload_version": 1, "state": state, **times}
        async with database.sessions.begin() as session:
            session.add(Job(**{**defaults, **columns}))
        return job_id

    return make


async def add_worker(session: Session, *, silent_for: timedelta = timedelta(0), **columns: Any) -> UUID:
    worker_id = new_id()
    times = {"started_at": func.now() - 2 * silent_for, "beat_at": func.now() - silent_for}
    defaults = {"id": worker_id, "host": "host", "pid": 7, "queues": ["default"], "concurrency": 10, **times}
    await session.execute(insert(JobWorker).values(defaults | columns))
    return worker_id


# --- jobs ----------------------------------------------------------------------------------------------------------


async def test_a_job_is_found_whoever_started_it(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job(owner_id=new_id())

    job = await JobRepository(session).get(job_id)

    assert job is not None
    assert job.id == job_id


async def test_a_job_that_was_never_there_is_not_found(session: Session) -> None:
    assert await JobRepository(session).get(new_id()) is None


@pytest.mark.parametrize(
    "job_filter",
    [
        JobFilter(state=JobState.DISCARDED),
        JobFilter(kind="mail"),
        JobFilter(queue="slow"),
        JobFilter(state=JobState.DISCARDED, kind="mail", queue="slow"),
    ],
    ids=["state", "kind", "queue", "all"],
)
async def test_jobs_are_found_by_what_they_have_in_common(
    session: Session, make_job: MakeJob, job_filter: JobFilter
) -> None:
    meant = [await make_job(JobState.DISCARDED, kind="mail", queue="slow") for _ in range(2)]
    await make_job()

    page = await JobRepository(session).matching(job_filter, after=None, limit=10)

    assert [job.id for job in page.items] == meant[::-1]


async def test_without_a_filter_all_jobs_are_found_in_pages(session: Session, make_job: MakeJob) -> None:
    jobs = [await make_job(state) for state in JobState]
    first = await JobRepository(session).matching(JobFilter(), after=None, limit=6)

    second = await JobRepository(session).matching(JobFilter(), after=first.next, limit=6)

    assert [job.id for job in [*first.items, *second.items]] == jobs[::-1]
    assert second.next is None


async def test_a_list_of_jobs_does_not_fetch_their_results(session: Session, make_job: MakeJob) -> None:
    await make_job(result={"large": True})
    page = await JobRepository(session).matching(JobFilter(), after=None, limit=1)

    with pytest.raises(InvalidRequestError, match="raiseload"):
        _ = page.items[0].result


async def test_the_errors_of_a_job_are_shown_from_the_last(session: Session, make_job: MakeJob) -> None:
    job_id, other = await make_job(), await make_job()
    session.add_all([JobError(id=new_id(), job_id=job_id, attempt=attempt, error="boom") for attempt in (1, 2)])
    session.add(JobError(job_id=other, attempt=3, error="bang"))

    errors = await JobRepository(session).errors_of(job_id)

    assert [error.attempt for error in errors] == [2, 1]


async def test_a_job_that_failed_ever_so_often_shows_its_last_errors(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    rows = [{"id": new_id(), "job_id": job_id, "attempt": n, "error": "boom"} for n in range(MAX_ERRORS + 1)]
    await session.execute(insert(JobError), rows)

    errors = await JobRepository(session).errors_of(job_id)

    assert [error.attempt for error in errors] == list(range(MAX_ERRORS, 0, -1))


async def test_a_job_that_was_asked_to_end_is_known(session: Session, make_job: MakeJob) -> None:
    asked, other = await make_job(JobState.EXECUTING), await make_job(JobState.EXECUTING)
    session.add(JobCancellation(job_id=asked))

    jobs = JobRepository(session)

    assert [await jobs.is_asked_to_end(job_id) for job_id in (asked, other)] == [True, False]


# --- queues --------------------------------------------------------------------------------------------------------


async def test_a_queue_shows_its_open_jobs_by_state(session: Session, make_job: MakeJob) -> None:
    for state in (*JobState, JobState.AVAILABLE):
        await make_job(state)

    (queue,) = await JobRepository(session).queues()

    assert queue.name == "default"
    assert queue.counts == {
        JobState.SCHEDULED: 1,
        JobState.AVAILABLE: 2,
        JobState.DISPATCHED: 1,
        JobState.EXECUTING: 1,
        JobState.RETRYABLE: 1,
    }


async def test_a_queue_shows_for_how_long_its_oldest_job_has_been_due(session: Session, make_job: MakeJob) -> None:
    await make_job(claim_at=func.now() - 2 * MINUTE)
    await make_job(claim_at=func.now() - MINUTE)

    (queue,) = await JobRepository(session).queues()

    assert queue.oldest_due_age is not None
    assert 120 <= queue.oldest_due_age < 180


async def test_a_job_that_is_due_since_ever_is_due(session: Session, make_job: MakeJob) -> None:
    """Rows of before `run_at` had bounds: asyncpg 0.32 stores the first and the last datetime as infinite."""
    await make_job()
    await session.execute(text("UPDATE jobs SET run_at = '-infinity', claim_at = '-infinity'"))

    (queue,) = await JobRepository(session).queues()
    job = (await session.scalars(select(Job))).one()

    assert queue.oldest_due_age is not None
    assert 10**9 < queue.oldest_due_age < 10**10
    assert aware(job.run_at).utcoffset() == timedelta(0)
    assert aware(aware(job.run_at)) == aware(job.run_at)


async def test_a_queue_in_which_nothing_is_due_has_no_age(session: Session, make_job: MakeJob) -> None:
    await make_job(JobState.SCHEDULED, claim_at=func.now() + MINUTE)

    (queue,) = await JobRepository(session).queues()

    assert queue.oldest_due_age is None


async def test_a_queue_shows_what_an_operator_has_set(session: Session) -> None:
    await session.execute(insert(JobQueue).values(name="mail", paused_at=func.now(), max_running=3))

    (queue,) = await JobRepository(session).queues()

    assert (queue.name, queue.max_running, queue.counts) == ("mail", 3, {})
    assert queue.paused_at is not None


async def test_a_queue_shows_how_many_workers_are_there_for_it(session: Session, make_job: MakeJob) -> None:
    await make_job(queue="alone")
    await add_worker(session, queues=["mail", "default"])
    await add_worker(session, queues=["mail"])
    await add_worker(session, queues=["mail", "dead"], silent_for=SILENCE)

    queues = await JobRepository(session).queues()

    assert {queue.name: queue.workers for queue in queues} == {"alone": 0, "dead": 0, "default": 1, "mail": 2}


async def test_a_queue_is_known_by_its_jobs_its_workers_or_its_settings(session: Session, make_job: MakeJob) -> None:
    await make_job(queue="jobs")
    await make_job(JobState.COMPLETED, queue="over")
    await add_worker(session, queues=["workers"])
    await session.execute(insert(JobQueue).values(name="settings"))
    jobs = JobRepository(session)

    known = [name for name in ("jobs", "over", "workers", "settings", "none") if await jobs.has_queue(name)]

    assert known == ["jobs", "workers", "settings"]


# --- workers -------------------------------------------------------------------------------------------------------


async def test_workers_are_listed_with_their_last_sign_of_life(session: Session) -> None:
    dead = await add_worker(session, silent_for=SILENCE)
    alive = await add_worker(session, silent_for=SILENCE / 2, running=3, draining=True)

    workers = await JobRepository(session).workers()

    assert [(worker.id, worker.is_alive, worker.beat_age) for worker in workers] == [
        (dead, False, 15.0),
        (alive, True, 7.5),
    ]
    assert (workers[1].running, workers[1].draining, workers[1].queues) == (3, True, ["default"])


# --- figures -------------------------------------------------------------------------------------------------------


async def test_the_figures_count_what_is_open_and_what_is_dead(session: Session, make_job: MakeJob) -> None:
    for state in (*JobState, JobState.DISCARDED):
        await make_job(state)
    await make_job(queue="mail", kind="email.welcome")

    stats = await JobRepository(session).stats()

    assert stats.jobs == [
        JobCount("default", "test", JobState.AVAILABLE, 1),
        JobCount("default", "test", JobState.DISCARDED, 2),
        JobCount("default", "test", JobState.DISPATCHED, 1),
        JobCount("default", "test", JobState.EXECUTING, 1),
        JobCount("default", "test", JobState.RETRYABLE, 1),
        JobCount("default", "test", JobState.SCHEDULED, 1),
        JobCount("mail", "email.welcome", JobState.AVAILABLE, 1),
    ]


async def test_the_figures_say_what_has_ended_lately_and_how_long_it_ran(session: Session, make_job: MakeJob) -> None:
    for seconds in (1, 3):
        await make_job(JobState.COMPLETED, started_at=func.now() - timedelta(seconds=seconds))
    await make_job(JobState.COMPLETED, finished_at=func.now() - 61 * MINUTE)
    await make_job(JobState.CANCELLED)

    stats = await JobRepository(session).stats()

    assert stats.finished == [
        FinishedCount("test", JobState.CANCELLED, 1, None),
        FinishedCount("test", JobState.COMPLETED, 2, 2.0),
    ]


async def test_the_run_time_of_a_job_whose_row_does_not_say_it_is_left_out(session: Session, make_job: MakeJob) -> None:
    await make_job(JobState.COMPLETED, started_at=func.now(), finished_at=func.now())

    (finished,) = (await JobRepository(session).stats()).finished

    assert finished.mean_run_time is None
