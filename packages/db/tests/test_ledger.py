"""Which delivery holds a job: starts, ends and fences."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, text

from app_db import Database, Session
from app_db.driver import TransactionEnded
from app_db.jobs import ledger
from app_db.jobs.ledger import UNMARKED_REDELIVERIES, Delivery, Starter
from app_db.models import Job, JobCancellation, JobError, JobState
from app_db.types import new_id

from .ledger_steps import (
    FINAL,
    LEASE,
    PAST,
    MakeJob,
    claim,
    claimed,
    executing,
    is_due_within,
    let_lease_run_out,
    overtaken,
    start,
    stored,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
IDLE = timedelta(seconds=10)
TOTAL = timedelta(minutes=10)

# --- start ---------------------------------------------------------------------------------------------------------


async def test_starting_tells_what_to_do(session: Session, make_job: MakeJob) -> None:
    owner_id = new_id()
    await make_job(
        payload={"n": 7}, payload_version=2, max_attempts=4, crashes=3, owner_id=owner_id, request_id="request-1"
    )

    started = await start(session, await claimed(session))

    assert started is not None
    assert started.run_at <= started.run_at.now(UTC)
    assert replace(started, run_at=EPOCH) == ledger.StartedJob(
        "test", '{"n": 7}', 2, 1, 4, 3, owner_id, "request-1", None, EPOCH
    )


async def test_a_leased_job_executes_until_its_lease_runs_out(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    await executing(session)

    job = await stored(session, job_id)

    assert (job.state, job.attempt, job.finished_at) == (JobState.EXECUTING, 1, None)
    assert await is_due_within(session, job, LEASE)


async def test_any_other_job_is_completed_by_its_start(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    await start(session, await claimed(session), leased=False)

    job = await stored(session, job_id)

    assert (job.state, job.attempt, job.claim_at) == (JobState.COMPLETED, 1, None)
    assert job.finished_at is not None


async def test_a_start_is_on_record_with_its_worker(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    worker_id = new_id()

    await ledger.start(session, await claimed(session), Starter(worker_id, [], LEASE))

    job = await stored(session, job_id)
    assert job.worker_id == worker_id
    assert job.started_at is not None


async def test_the_same_delivery_starts_once(session: Session, make_job: MakeJob) -> None:
    await make_job()
    delivery = await executing(session)

    assert await start(session, delivery) is None


async def test_an_older_delivery_does_not_start(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    old = await claimed(session)
    await let_lease_run_out(session, job_id)
    await claimed(session)

    assert await start(session, old) is None


async def test_an_unknown_job_does_not_start(session: Session) -> None:
    assert await start(session, Delivery(new_id(), 1)) is None


async def test_a_job_that_is_being_run_in_a_transaction_is_not_delivered_however_late_it_is(
    database: Database, session: Session, make_job: MakeJob
) -> None:
    await make_job()
    delivery = await claimed(session)
    await let_lease_run_out(session, delivery.id)

    async with database.sessions() as runner:
        await ledger.start(runner, delivery, Starter(new_id(), [], LEASE))

        assert await claim(session) == []


async def test_a_tx_job_that_led_to_nothing_twice_is_marked_at_its_start(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job(redeliveries=UNMARKED_REDELIVERIES)

    started = await start(session, await claimed(session), leased=False)

    assert started is not None
    assert started.is_marked
    assert (await stored(session, job_id)).state is JobState.EXECUTING


async def test_a_job_that_is_to_be_cancelled_does_not_start(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await claimed(session)
    session.add(JobCancellation(job_id=job_id))
    await session.commit()

    assert await start(session, delivery) is None


# --- finish --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", FINAL)
async def test_a_job_ends_with_its_result(session: Session, make_job: MakeJob, state: JobState) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    assert await ledger.finish(session, delivery, state=state, result={"rows": [1, None]}) is state

    job = await stored(session, job_id)
    assert (job.state, job.claim_at, job.result) == (state, None, {"rows": [1, None]})
    assert job.finished_at is not None


async def test_a_job_without_a_result_has_sql_null(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await ledger.finish(session, await executing(session), state=JobState.COMPLETED)

    assert (await session.scalars(select(Job.result.is_(None)))).one()


async def test_a_retry_is_due_after_its_backoff(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    assert await ledger.finish(session, delivery, state=JobState.RETRYABLE, due_in=LEASE)

    job = await stored(session, job_id)
    assert (job.state, job.attempt, job.finished_at) == (JobState.RETRYABLE, 1, None)
    assert await is_due_within(session, job, LEASE)


async def test_an_attempt_can_be_given_back(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    await ledger.finish(session, delivery, state=JobState.AVAILABLE, costs_attempt=False, due_in=timedelta(0))
    await session.commit()

    assert (await stored(session, job_id)).attempt == 0
    assert await claim(session) == [Delivery(job_id, delivery.fence + 1)]


async def test_an_overtaken_delivery_finishes_nothing(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    old = await overtaken(session)

    assert not await ledger.finish(session, old, state=JobState.COMPLETED, result="late")

    assert (await stored(session, job_id)).state is JobState.EXECUTING


async def test_a_finished_job_is_not_finished_again(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)
    await ledger.finish(session, delivery, state=JobState.CANCELLED)

    assert not await ledger.finish(session, delivery, state=JobState.COMPLETED)

    assert (await stored(session, job_id)).state is JobState.CANCELLED


@pytest.mark.parametrize("state", [JobState.RETRYABLE, JobState.SCHEDULED, JobState.AVAILABLE])
async def test_a_job_that_is_to_be_cancelled_is_not_run_again(
    session: Session, make_job: MakeJob, state: JobState
) -> None:
    job_id = await make_job()
    delivery = await executing(session)
    session.add(JobCancellation(job_id=job_id))
    await session.flush()

    ended = await ledger.finish(session, delivery, state=state, due_in=LEASE)

    assert ended is JobState.CANCELLED
    job = await stored(session, job_id)
    assert (job.state, job.claim_at) == (JobState.CANCELLED, None)
    assert job.finished_at is not None


async def test_a_job_that_was_done_before_it_could_be_cancelled_is_completed(
    session: Session, make_job: MakeJob
) -> None:
    job_id = await make_job()
    delivery = await executing(session)
    session.add(JobCancellation(job_id=job_id))
    await session.flush()

    assert await ledger.finish(session, delivery, state=JobState.COMPLETED) is JobState.COMPLETED


async def test_the_end_of_a_job_carries_its_last_progress_and_keeps_it_otherwise(
    session: Session, make_job: MakeJob
) -> None:
    job_id = await make_job()
    delivery = await executing(session)
    await ledger.finish(session, delivery, state=JobState.RETRYABLE, due_in=PAST, progress={"done": 1})
    await session.commit()
    assert (await stored(session, job_id)).progress == {"done": 1}

    await ledger.finish(session, await executing(session), state=JobState.COMPLETED)

    assert (await stored(session, job_id)).progress == {"done": 1}


async def test_a_job_completed_in_this_transaction_gets_a_result(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await claimed(session)
    await start(session, delivery, leased=False)

    await ledger.set_result(session, delivery, [1, 2])

    assert (await stored(session, job_id)).result == [1, 2]


async def test_an_overtaken_delivery_leaves_no_result(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    old = await overtaken(session)

    await ledger.set_result(session, old, "late")

    assert (await stored(session, job_id)).result is None


async def test_the_same_error_of_the_same_attempt_is_on_record_once(session: Session, make_job: MakeJob) -> None:
    await make_job()
    delivery = await executing(session)

    for _ in range(2):
        await ledger.record_error(session, delivery, attempt=1, error="no handler", trace=None)

    assert await session.scalar(select(func.count()).select_from(JobError)) == 1


async def test_the_history_of_attempts_keeps_each_error(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    await ledger.record_error(session, delivery, attempt=1, error="no route", trace="line 1")
    await ledger.record_error(session, delivery, attempt=2, error="no host", trace=None)

    errors = (await session.scalars(select(JobError).order_by(JobError.id))).all()
    assert [(error.job_id, error.attempt, error.error, error.trace) for error in errors] == [
        (job_id, 1, "no route", "line 1"),
        (job_id, 2, "no host", None),
    ]


# --- hold, progress, extend ----------------------------------------------------------------------------------------


async def test_a_job_that_runs_is_held(session: Session, make_job: MakeJob) -> None:
    await make_job()

    assert await ledger.lock(session, await executing(session), idle=IDLE, total=TOTAL)


async def test_an_overtaken_delivery_holds_nothing(session: Session, make_job: MakeJob) -> None:
    await make_job()

    assert not await ledger.lock(session, await overtaken(session), idle=IDLE, total=TOTAL)


async def test_a_held_job_is_not_delivered_before_the_end_of_the_transaction(
    database: Database, session: Session, make_job: MakeJob
) -> None:
    await make_job()
    delivery = await executing(session)
    await let_lease_run_out(session, delivery.id)

    async with database.sessions() as writer:
        assert await ledger.lock(writer, delivery, idle=IDLE, total=TOTAL)

        assert await claim(session) == []


async def test_who_waits_too_long_while_it_holds_a_job_loses_its_transaction(
    session: Session, make_job: MakeJob
) -> None:
    await make_job()

    await ledger.lock(session, await executing(session), idle=timedelta(milliseconds=1500), total=TOTAL)

    shown = await session.scalar(text("SHOW idle_in_transaction_session_timeout"))
    assert shown == "1500ms"


async def test_who_holds_a_job_has_as_long_as_it_may_take_from_then_on(session: Session, make_job: MakeJob) -> None:
    await make_job()
    delivery = await executing(session)
    await session.execute(text("SET LOCAL transaction_timeout = '700ms'"))  # as on a connection for shorter jobs

    await ledger.lock(session, delivery, idle=IDLE, total=TOTAL)

    await session.execute(text("SELECT pg_sleep(1)"))


async def test_a_job_is_held_for_no_longer_than_it_may_take(session: Session, make_job: MakeJob) -> None:
    await make_job()
    await ledger.lock(session, await executing(session), idle=IDLE, total=timedelta(milliseconds=100))

    with pytest.raises(TransactionEnded, match="transaction_timeout"):
        await session.execute(text("SELECT pg_sleep(10)"))


async def test_the_lease_of_a_held_job_is_renewed(session: Session, make_job: MakeJob) -> None:
    await make_job()
    delivery = await executing(session)

    await ledger.extend(session, delivery, lease=timedelta(hours=1))

    assert not await is_due_within(session, await stored(session, delivery.id), timedelta(minutes=59))


async def test_an_overtaken_delivery_extends_nothing(session: Session, make_job: MakeJob) -> None:
    await make_job()
    old = await overtaken(session)

    await ledger.extend(session, old, lease=timedelta(hours=1))

    assert await is_due_within(session, await stored(session, old.id), LEASE)


async def test_progress_is_shown(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    delivery = await executing(session)

    assert await ledger.set_progress(session, delivery, {"done": 1, "of": 2})

    assert (await stored(session, job_id)).progress == {"done": 1, "of": 2}


async def test_an_overtaken_delivery_shows_no_progress(session: Session, make_job: MakeJob) -> None:
    job_id = await make_job()
    old = await overtaken(session)

    assert not await ledger.set_progress(session, old, {"done": 2, "of": 2})

    assert (await stored(session, job_id)).progress is None
