"""Cancelling, retrying and discarding jobs, one or many."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select, update

from app_db import Database, Session
from app_db.errors import NotFound
from app_db.jobs import control, ledger
from app_db.jobs.after_commit import ON_COMMIT
from app_db.jobs.control import Action, DuplicateJob, FilterTooWide, JobIsFinal, JobIsRunning
from app_db.jobs.filters import JobFilter
from app_db.jobs.ledger import Delivery, Starter
from app_db.models import Job, JobCancellation, JobQueue, JobState
from app_db.repositories.jobs import JobRepository
from app_db.types import new_id

type MakeJob = Callable[..., Awaitable[UUID]]

HOUR, PAST = timedelta(hours=1), timedelta(minutes=-1)
FINAL = [JobState.COMPLETED, JobState.DISCARDED, JobState.CANCELLED]
WAITING = [JobState.SCHEDULED, JobState.AVAILABLE, JobState.DISPATCHED, JobState.RETRYABLE]


@pytest.fixture
def make_job(database: Database) -> MakeJob:
    """Return a factory of committed jobs as the ledger would have left them; one that is not due is in an hour."""

    async def make(state: JobState = JobState.AVAILABLE, **columns: Any) -> UUID:  # Any: columns of Job
        job_id = new_id()
        claim_at = func.now() + (PAST if state is JobState.AVAILABLE else HOUR)
        times = {"finished_at": func.now()} if state in FINAL else {"claim_at": claim_at}
        defaults = {"id": job_id, "kind": "test", "payload": {}, "payload_version": 1, "state": state, **times}
        async with database.sessions.begin() as session:
            session.add(Job(**{**defaults, **columns}))
        return job_id

    return make


async def stored(session: Session, job_id: UUID) -> Job:
    statement = select(Job).where(Job.id == job_id).execution_options(populate_existing=True)
    return (await session.scalars(statement)).one()


async def state_of(session: Session, job_id: UUID) -> JobState:
    return (await stored(session, job_id)).state


async def is_due(session: Session, job_id: UUID) -> bool:
    return bool(await session.scalar(select(Job.claim_at <= func.clock_timestamp()).where(Job.id == job_id)))


async def asked_to_end(session: Session) -> list[UUID]:
    return list(await session.scalars(select(JobCancellation.job_id).order_by(JobCancellation.job_id)))


async def run_in_transaction(session: Session, job_id: UUID) -> None:
    """Start a job in tx mode and leave its transaction open, as its handler does."""
    delivery = Delivery(job_id, 0)
    started = await ledger.start(session, delivery, Starter(new_id(), [], HOUR))
    assert started is not None


# --- cancel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", WAITING)
async def test_a_job_that_waits_is_cancelled_at_once(session: Session, make_job: MakeJob, state: JobState) -> None:
    job_id, other = await make_job(state), await make_job(state)

    await control.cancel(session, job_id)

    job = await stored(session, job_id)
    assert (job.state, job.claim_at) == (JobState.CANCELLED, None)
    assert job.finished_at is not None
    assert await state_of(session, other) is state
    assert await asked_to_end(session) == []


async def test_a_job_that_runs_is_asked_to_end(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job(JobState.EXECUTING)

    await control.cancel(session, job_id)

    assert await state_of(session, job_id) is JobState.EXECUTING
    assert await asked_to_end(session) == [job_id]


async def test_a_job_whose_row_its_handler_has_locked_is_asked_to_end_without_waiting(
    database: Database, session: Session, make_job: MakeJob
) -> None:
    job_id = await make_job(JobState.DISPATCHED)

    async with database.sessions() as running:
        await run_in_transaction(running, job_id)
        await control.cancel(session, job_id)
        await session.commit()
        await running.rollback()

    assert await asked_to_end(session) == [job_id]


async def test_a_job_that_was_asked_to_end_may_be_asked_again(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job(JobState.EXECUTING)
    await control.cancel(session, job_id)

    await control.cancel(session, job_id)

    assert await asked_to_end(session) == [job_id]


async def test_a_job_that_is_cancelled_may_be_cancelled_again(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    await control.cancel(session, job_id)

    await control.cancel(session, job_id)

    assert await state_of(session, job_id) is JobState.CANCELLED


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.DISCARDED])
async def test_a_job_that_has_ended_cannot_be_cancelled(session: Session, make_job: MakeJob, state: JobState) -> None:
    job_id = await make_job(state)

    with pytest.raises(JobIsFinal):
        await control.cancel(session, job_id)


async def test_of_many_who_cancel_a_job_at_once_nobody_is_refused(database: Database, make_job: MakeJob) -> None:
    job_id = await make_job()

    async def cancel() -> None:
        async with database.unit_of_work() as session:
            await control.cancel(session, job_id)

    await asyncio.gather(*(cancel() for _ in range(5)))

    async with database.sessions() as session:
        assert await state_of(session, job_id) is JobState.CANCELLED


@pytest.mark.parametrize("act", [control.cancel, control.retry, control.discard])
async def test_a_job_that_does_not_exist_is_not_found(
    session: Session, act: Callable[[Session, UUID], Awaitable[None]]
) -> None:
    with pytest.raises(NotFound):
        await act(session, new_id())


# --- retry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [*FINAL, JobState.RETRYABLE, JobState.SCHEDULED])
async def test_a_job_that_is_retried_is_due_at_once(session: Session, make_job: MakeJob, state: JobState) -> None:
    job_id = await make_job(state, run_at=func.now() + HOUR)

    await control.retry(session, job_id)

    job = await stored(session, job_id)
    assert (job.state, job.finished_at) == (JobState.AVAILABLE, None)
    assert job.run_at == job.claim_at
    assert await is_due(session, job_id)


async def test_a_retry_starts_with_a_clean_record(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job(JobState.CANCELLED, crashes=5, result={"n": 1}, progress={"done": 1})
    await session.execute(insert(JobCancellation).values(job_id=job_id))

    await control.retry(session, job_id)

    job = await stored(session, job_id)
    assert (job.crashes, job.result, job.progress) == (0, None, None)
    assert await asked_to_end(session) == []


@pytest.mark.parametrize(("attempt", "before", "after"), [(3, 3, 4), (4, 3, 5), (1, 3, 3), (20, None, None)], ids=str)
async def test_a_retry_gives_at_least_one_attempt_and_takes_none(
    session: Session, make_job: MakeJob, attempt: int, before: int | None, after: int | None
) -> None:
    job_id = await make_job(JobState.DISCARDED, attempt=attempt, max_attempts=before)

    await control.retry(session, job_id)

    job = await stored(session, job_id)
    assert (job.attempt, job.max_attempts) == (attempt, after)


@pytest.mark.parametrize("state", [JobState.DISPATCHED, JobState.EXECUTING])
async def test_a_job_that_runs_cannot_be_retried(session: Session, make_job: MakeJob, state: JobState) -> None:
    job_id = await make_job(state)

    with pytest.raises(JobIsRunning):
        await control.retry(session, job_id)


async def test_a_job_that_is_due_already_stays_where_it_is_in_its_queue(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job(JobState.AVAILABLE)
    before = (await stored(session, job_id)).claim_at

    await control.retry(session, job_id)

    assert (await stored(session, job_id)).claim_at == before


async def test_a_retry_waits_for_one_in_progress_and_agrees_with_it(database: Database, make_job: MakeJob) -> None:
    job_id = await make_job(JobState.DISCARDED, attempt=1, max_attempts=1)

    async def retry() -> None:
        async with database.unit_of_work() as session:
            await control.retry(session, job_id)

    await asyncio.gather(*(retry() for _ in range(5)))

    async with database.sessions() as session:
        job = await stored(session, job_id)
    assert (job.state, job.max_attempts) == (JobState.AVAILABLE, 2)


async def test_a_job_whose_place_another_has_taken_cannot_be_retried(session: Session, make_job: MakeJob) -> None:
    unique = {"unique_key": "k", "unique_states": ["available"]}
    job_id = await make_job(JobState.DISCARDED, **unique)
    await make_job(JobState.AVAILABLE, **unique)

    with pytest.raises(DuplicateJob):
        await control.retry(session, job_id)


# --- discard -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", WAITING)
async def test_a_job_that_waits_can_be_given_up(session: Session, make_job: MakeJob, state: JobState) -> None:
    job_id = await make_job(state)

    await control.discard(session, job_id)

    job = await stored(session, job_id)
    assert (job.state, job.claim_at) == (JobState.DISCARDED, None)
    assert job.finished_at is not None


@pytest.mark.parametrize("state", FINAL)
async def test_a_job_that_has_ended_cannot_be_discarded(session: Session, make_job: MakeJob, state: JobState) -> None:
    job_id = await make_job(state)

    with pytest.raises(JobIsFinal):
        await control.discard(session, job_id)


async def test_a_job_that_runs_cannot_be_discarded(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job(JobState.EXECUTING)

    with pytest.raises(JobIsRunning):
        await control.discard(session, job_id)


async def test_a_job_whose_row_its_handler_has_locked_cannot_be_discarded(
    database: Database, session: Session, make_job: MakeJob
) -> None:
    job_id = await make_job(JobState.DISPATCHED)

    async with database.sessions() as running:
        await run_in_transaction(running, job_id)

        with pytest.raises(JobIsRunning):
            await control.discard(session, job_id)


# --- many ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job_filter",
    [
        JobFilter(state=JobState.RETRYABLE),
        JobFilter(kind="mail"),
        JobFilter(queue="slow"),
        JobFilter(owner_id=new_id()),
    ],
    ids=["state", "kind", "queue", "owner"],
)
async def test_an_action_meets_what_matches_and_nothing_else(
    session: Session, make_job: MakeJob, job_filter: JobFilter
) -> None:
    named = {"state": job_filter.state, "kind": job_filter.kind, "queue": job_filter.queue}
    columns = {name: value for name, value in named.items() if value} | {"owner_id": job_filter.owner_id}
    meant, other = await make_job(**columns), await make_job()

    count = await control.act_on_all(session, job_filter, Action.DISCARD)

    assert count == 1
    assert await state_of(session, meant) is JobState.DISCARDED
    assert await state_of(session, other) is JobState.AVAILABLE


@pytest.mark.parametrize("action", list(Action))
async def test_acting_on_every_job_there_is_is_refused(session: Session, make_job: MakeJob, action: Action) -> None:
    job_id = await make_job(JobState.RETRYABLE)

    with pytest.raises(FilterTooWide):
        await control.act_on_all(session, JobFilter(), action)

    assert await state_of(session, job_id) is JobState.RETRYABLE


async def test_an_action_is_repeated_until_nothing_is_left(session: Session, make_job: MakeJob) -> None:
    for _ in range(3):
        await make_job()

    counts = [await control.act_on_all(session, JobFilter(kind="test"), Action.CANCEL, limit=2) for _ in range(3)]

    assert counts == [2, 1, 0]


async def test_cancelling_many_ends_what_waits_and_asks_what_runs(session: Session, make_job: MakeJob) -> None:
    waiting, running = await make_job(JobState.SCHEDULED), await make_job(JobState.EXECUTING)
    ended = [await make_job(state) for state in (JobState.COMPLETED, JobState.DISCARDED)]

    counts = [await control.act_on_all(session, JobFilter(queue="default"), Action.CANCEL) for _ in range(2)]

    assert counts == [2, 0]
    assert await state_of(session, waiting) is JobState.CANCELLED
    assert await asked_to_end(session) == [running]
    assert [await state_of(session, job_id) for job_id in ended] == [JobState.COMPLETED, JobState.DISCARDED]


async def test_retrying_many_means_those_that_failed(session: Session, make_job: MakeJob) -> None:
    failed = [await make_job(state) for state in (JobState.DISCARDED, JobState.RETRYABLE)]
    others = {await make_job(state): state for state in set(JobState) - {JobState.DISCARDED, JobState.RETRYABLE}}

    counts = [await control.act_on_all(session, JobFilter(queue="default"), Action.RETRY) for _ in range(2)]

    assert counts == [2, 0]
    assert [await is_due(session, job_id) for job_id in failed] == [True, True]
    assert {job_id: await state_of(session, job_id) for job_id in others} == others


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.COMPLETED, JobState.SCHEDULED])
async def test_retrying_many_means_others_only_when_they_are_named(
    session: Session, make_job: MakeJob, state: JobState
) -> None:
    job_id = await make_job(state)

    count = await control.act_on_all(session, JobFilter(state=state), Action.RETRY)

    assert count == 1
    assert await is_due(session, job_id)


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (JobState.COMPLETED, Action.CANCEL),
        (JobState.DISCARDED, Action.DISCARD),
        (JobState.EXECUTING, Action.RETRY),
        (JobState.EXECUTING, Action.DISCARD),
    ],
)
async def test_an_action_passes_over_what_it_does_not_apply_to(
    session: Session, make_job: MakeJob, state: JobState, action: Action
) -> None:
    await make_job(state)

    assert await control.act_on_all(session, JobFilter(state=state), action) == 0


async def test_of_dead_jobs_that_are_unique_in_the_same_way_one_is_retried(session: Session, make_job: MakeJob) -> None:
    unique = {"unique_key": "k", "unique_states": ["available", "retryable"]}
    same = [await make_job(JobState.DISCARDED, **unique) for _ in range(3)]
    other = await make_job(JobState.DISCARDED)

    counts = [await control.act_on_all(session, JobFilter(kind="test"), Action.RETRY) for _ in range(2)]

    assert counts == [2, 0]
    assert sorted([await state_of(session, job_id) for job_id in same]) == ["available", "discarded", "discarded"]
    assert await state_of(session, other) is JobState.AVAILABLE


async def test_many_actions_at_once_do_not_wait_for_each_other(database: Database, make_job: MakeJob) -> None:
    for _ in range(4):
        await make_job(JobState.DISCARDED)

    async with database.sessions() as one, database.sessions() as other:
        first = await control.act_on_all(one, JobFilter(kind="test"), Action.RETRY, limit=3)
        second = await control.act_on_all(other, JobFilter(kind="test"), Action.RETRY)

    assert (first, second) == (3, 1)


# --- cancellation requests that a worker sees ----------------------------------------------------------------------


async def retry_dead(session: Session, make_job: MakeJob) -> None:
    await control.retry(session, await make_job(JobState.DISCARDED))


async def retry_many(session: Session, make_job: MakeJob) -> None:
    await make_job(JobState.DISCARDED)
    await control.act_on_all(session, JobFilter(kind="test"), Action.RETRY)


async def cancel_running(session: Session, make_job: MakeJob) -> None:
    await control.cancel(session, await make_job(JobState.EXECUTING))


async def cancel_many(session: Session, make_job: MakeJob) -> None:
    await make_job(JobState.EXECUTING)
    await control.act_on_all(session, JobFilter(kind="test"), Action.CANCEL)


async def resume_queue(session: Session, make_job: MakeJob) -> None:
    await control.resume(session, "default")


async def limit_queue(session: Session, make_job: MakeJob) -> None:
    await control.limit(session, "default", 3)


@pytest.mark.parametrize(
    "act",
    [retry_dead, retry_many, cancel_running, cancel_many, resume_queue, limit_queue],
    ids=lambda act: act.__name__,
)
async def test_workers_look_at_once_when_there_is_something_for_them(
    session: Session, make_job: MakeJob, act: Callable[[Session, MakeJob], Awaitable[None]]
) -> None:
    heard: list[object] = []
    session.info[ON_COMMIT] = heard.append
    await act(session, make_job)

    await session.commit()

    assert len(heard) == 1


# --- queues --------------------------------------------------------------------------------------------------------


async def queue_row(session: Session, name: str) -> JobQueue | None:
    return await session.get(JobQueue, name, populate_existing=True)


async def test_a_queue_without_settings_can_be_paused(session: Session) -> None:
    await control.pause(session, "mail")

    row = await queue_row(session, "mail")
    assert row is not None
    assert row.paused_at is not None


async def test_who_paused_a_queue_first_is_known_until_it_is_resumed(session: Session) -> None:
    for by in ("ada", "bob"):
        await control.pause(session, "mail", by=by)

    [queue] = await JobRepository(session).queues()
    assert queue.paused_by == "ada"
    await control.resume(session, "mail")
    [queue] = await JobRepository(session).queues()
    assert (queue.paused_at, queue.paused_by) == (None, None)


async def test_a_second_pause_keeps_the_time_of_the_first(session: Session) -> None:
    await control.pause(session, "mail")
    await session.execute(update(JobQueue).values(paused_at=func.now() - HOUR))

    await control.pause(session, "mail")

    assert await session.scalar(select(JobQueue.paused_at < func.now()))


async def test_a_queue_that_is_resumed_keeps_its_limit(session: Session) -> None:
    await control.limit(session, "mail", 3)
    await control.pause(session, "mail")
    await control.pause(session, "other")

    await control.resume(session, "mail")

    mail, other = await queue_row(session, "mail"), await queue_row(session, "other")
    assert mail is not None
    assert other is not None
    assert (mail.paused_at, mail.max_running) == (None, 3)
    assert other.paused_at is not None


async def test_a_queue_that_is_limited_stays_paused(session: Session) -> None:
    await control.pause(session, "mail")

    await control.limit(session, "mail", 3)

    row = await queue_row(session, "mail")
    assert row is not None
    assert row.paused_at is not None


async def test_the_limit_of_a_queue_can_be_moved_and_lifted(session: Session) -> None:
    limits = []
    for max_running in (3, 5, None):
        await control.limit(session, "mail", max_running)
        row = await queue_row(session, "mail")
        assert row is not None
        limits.append(row.max_running)

    assert limits == [3, 5, None]


@pytest.mark.parametrize("max_running", [0, -1])
async def test_a_limit_below_one_is_refused(session: Session, max_running: int) -> None:
    with pytest.raises(ValueError, match="pause it"):
        await control.limit(session, "mail", max_running)
