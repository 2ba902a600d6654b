"""Jobs in lease mode: on record before they have an effect, renewed while they run, fenced when they are lost."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app_db.jobs.claims import SUSPICIOUS
from app_db.jobs.payload import JobPayload
from app_db.models import JobState, User
from app_db.settings import DatabaseSettings
from app_db.types import new_id
from app_worker.context import Discard, Fenced, JobContext, Snooze
from app_worker.registry import Mode, handles

from .conftest import Jobs, MakeRunner, Note, endless, eventually, until
from .proxy import Proxy, over


def new_user(job: JobContext) -> User:
    return User(id=job.id, email="x", email_canonical="x", password_hash="-")


async def count_users(jobs: Jobs) -> int:
    return int(await jobs.scalar("SELECT count(*) FROM users"))


async def test_the_start_of_a_leased_job_is_on_record_before_its_handler_runs(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    seen = []

    @handles(Note, mode=Mode.LEASE)
    async def look(job: JobContext, payload: Note) -> None:
        seen.append(await jobs.get(job.id))

    delivery = await jobs.deliver()
    runner = make_runner(look)

    await runner.run(delivery)

    (job,) = seen
    assert (job.state, job.attempt, job.worker_id) == (JobState.EXECUTING, 1, runner.worker_id)
    assert job.started_at is not None


async def test_what_a_leased_handler_returns_is_the_result_of_the_job(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def count(job: JobContext, payload: Note) -> dict[str, int]:
        await job.set_progress({"letters": 3})
        return {"letters": len(payload.text)}

    delivery = await jobs.deliver()

    await make_runner(count).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.result, job.claim_at) == (JobState.COMPLETED, {"letters": 5}, None)
    assert job.progress == {"letters": 3}


async def test_a_result_that_is_not_json_is_a_failed_attempt(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def returns_itself(job: JobContext, payload: Note) -> Any:
        return payload

    delivery = await jobs.deliver()

    await make_runner(returns_itself).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.RETRYABLE
    (error,) = await jobs.errors(delivery)
    assert "not JSON serializable" in error.error


@pytest.mark.parametrize(
    ("result", "why"),
    [(float("nan"), "not JSON compliant"), ("x" * 300_000, "256 KiB"), ("a \0", "unsupported Unicode")],
)
async def test_a_result_that_cannot_be_kept_is_a_failed_attempt(
    jobs: Jobs, make_runner: MakeRunner, result: Any, why: str
) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def returns_it(job: JobContext, payload: Note) -> Any:
        await job.set_progress("half")
        return result

    delivery = await jobs.deliver()

    await make_runner(returns_it).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.result) == (JobState.RETRYABLE, None)
    (error,) = await jobs.errors(delivery)
    assert why in error.error


async def test_progress_is_written_at_once_and_then_seldom_and_the_latest_in_the_end(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    seen = []

    @handles(Note, mode=Mode.LEASE)
    async def counts(job: JobContext, payload: Note) -> None:
        for done in range(50):
            await job.set_progress({"done": done})
            if done in {0, 49}:
                seen.append((await jobs.get(job.id)).progress)

    delivery = await jobs.deliver()

    await make_runner(counts).run(delivery)

    assert seen == [{"done": 0}, {"done": 0}]
    assert (await jobs.get(delivery)).progress == {"done": 49}


async def test_progress_that_came_too_soon_is_shown_a_moment_later(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def shows_and_waits(job: JobContext, payload: Note) -> None:
        for done in range(3):
            await job.set_progress({"done": done})

        async def shown() -> bool:
            return (await jobs.get(job.id)).progress == {"done": 2}

        await eventually(shown)

    delivery = await jobs.deliver()

    await make_runner(shows_and_waits).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.COMPLETED


async def test_a_job_that_snoozes_runs_later_and_has_lost_no_attempt(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE, max_attempts=1)
    async def not_now(job: JobContext, payload: Note) -> None:
        raise Snooze(timedelta(hours=1))

    delivery = await jobs.deliver()

    await make_runner(not_now).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.SCHEDULED, 0)
    assert job.claim_at is not None
    assert await jobs.errors(delivery) == []


async def test_a_job_that_gives_up_is_discarded_with_its_reason(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def gives_up(job: JobContext, payload: Note) -> None:
        raise Discard("the file is gone")

    delivery = await jobs.deliver()

    await make_runner(gives_up).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.DISCARDED, 1)
    (error,) = await jobs.errors(delivery)
    assert error.error == "app_worker.context.Discard: the file is gone"


async def test_the_idempotency_key_is_the_same_for_every_attempt(jobs: Jobs, make_runner: MakeRunner) -> None:
    keys = []

    @handles(Note, mode=Mode.LEASE)
    async def fails(job: JobContext, payload: Note) -> None:
        keys.append((job.attempt, job.idempotency_key))
        raise RuntimeError

    delivery = await jobs.deliver()
    runner = make_runner(fails)

    await runner.run(delivery)
    await runner.run(await jobs.dispatch(delivery.id))

    assert keys == [(1, f"job:{delivery.id}"), (2, f"job:{delivery.id}")]


async def test_a_handler_in_lease_mode_has_no_session_of_the_runner(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def takes_the_session(job: JobContext, payload: Note) -> None:
        job.session.add(new_user(job))

    delivery = await jobs.deliver()

    await make_runner(takes_the_session).run(delivery)

    (error,) = await jobs.errors(delivery)
    assert "opens transactions with job.transaction()" in error.error


async def test_a_leased_job_of_a_worker_that_stops_is_given_back(jobs: Jobs, make_runner: MakeRunner) -> None:
    runner = make_runner(endless)
    delivery = await jobs.deliver()
    task = asyncio.create_task(runner.run(delivery))
    await until(lambda: runner.lease_tasks)

    runner.stop()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.AVAILABLE, 0)
    assert runner.lease_tasks == {}


class Reminder(JobPayload):
    kind = "test.reminder"


@pytest.mark.parametrize("expected", Mode)
async def test_the_mode_of_a_job_matters_more_than_the_mode_that_was_expected(
    jobs: Jobs, make_runner: MakeRunner, expected: Mode
) -> None:
    seen = []

    @handles(Note)
    async def in_tx_mode(job: JobContext, payload: Note) -> None:
        job.session.add(new_user(job))

    @handles(Reminder, mode=Mode.LEASE)
    async def in_lease_mode(job: JobContext, payload: Reminder) -> None:
        seen.append((await jobs.get(job.id)).state)

    runner = make_runner(in_tx_mode, in_lease_mode)

    for payload in (Note(), Reminder()):
        runner.expected_mode = expected
        await runner.run(await jobs.deliver(payload))

    assert (await count_users(jobs), seen) == (1, [JobState.EXECUTING])
    assert runner.expected_mode is Mode.LEASE


async def test_a_start_that_was_lost_is_no_crash(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        runner = make_runner(endless, database=database)
        runner.expected_mode = Mode.LEASE
        delivery = await jobs.deliver()
        proxy.cut_at = delivery.id.bytes

        await runner.run(delivery)

    job = await jobs.get(delivery)
    assert job.started_at is not None
    assert (job.state, job.attempt, job.crashes) == (JobState.AVAILABLE, 0, 0)


async def test_a_zombie_cannot_write(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def loses_its_job(job: JobContext, payload: Note) -> None:
        await jobs.dispatch(job.id)
        async with job.transaction() as session:
            session.add(new_user(job))

    delivery = await jobs.deliver()

    await make_runner(loses_its_job).run(delivery)

    assert await count_users(jobs) == 0


async def test_a_zombie_cannot_show_progress(jobs: Jobs, make_runner: MakeRunner) -> None:
    fenced = []

    @handles(Note, mode=Mode.LEASE)
    async def loses_its_job(job: JobContext, payload: Note) -> None:
        await jobs.dispatch(job.id)
        with pytest.raises(Fenced):
            await job.set_progress("wrong")
        fenced.append(True)

    delivery = await jobs.deliver()

    await make_runner(loses_its_job).run(delivery)

    assert fenced
    assert (await jobs.get(delivery)).progress is None


async def test_a_zombie_cannot_complete_its_job(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def loses_its_job(job: JobContext, payload: Note) -> str:
        await jobs.dispatch(job.id)
        return "the zombie's result"

    delivery = await jobs.deliver()

    with capture_logs() as logs:
        await make_runner(loses_its_job).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.fence, job.crashes, job.result) == (JobState.DISPATCHED, 2, 1, None)
    assert [(event["event"], event["outcome"]) for event in logs] == [("job_ended", "fenced")]


async def test_a_zombie_cannot_fail_its_job(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def loses_its_job(job: JobContext, payload: Note) -> None:
        await jobs.dispatch(job.id)
        raise RuntimeError("too late")

    delivery = await jobs.deliver()

    await make_runner(loses_its_job).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.DISPATCHED
    (error,) = await jobs.errors(delivery)
    assert error.error == "The worker died, or lost its lease, while it ran this attempt."


async def test_an_outcome_is_recorded_once_the_database_is_back(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    cut = []
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:

        @handles(Note, mode=Mode.LEASE)
        async def ends_in_an_outage(job: JobContext, payload: Note) -> str:
            await proxy.cut()
            cut.append(True)
            return "done"

        delivery = await jobs.deliver()
        task = asyncio.create_task(make_runner(ends_in_an_outage, database=database).run(delivery))
        await until(lambda: cut)

        await proxy.mend()

        await task

    job = await jobs.get(delivery)
    assert (job.state, job.result, job.attempt) == (JobState.COMPLETED, "done", 1)


async def test_a_job_whose_outcome_cannot_be_recorded_comes_back_with_its_lease(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:

        @handles(Note, mode=Mode.LEASE)
        async def fails_with_the_database(job: JobContext, payload: Note) -> None:
            await proxy.cut()
            raise RuntimeError

        delivery = await jobs.deliver()
        runner = make_runner(fails_with_the_database, database=database, lease=timedelta(seconds=1))

        with capture_logs() as logs:
            await runner.run(delivery)

    assert [event["event"] for event in logs] == ["job_outcome_not_recorded", "job_ended"]
    job = await jobs.get(delivery)
    assert (job.state, job.fence) == (JobState.EXECUTING, 1)
    assert job.claim_at is not None


async def test_a_transaction_renews_the_lease_at_its_end(jobs: Jobs, make_runner: MakeRunner) -> None:
    seen = []

    @handles(Note, mode=Mode.LEASE)
    async def two_looks(job: JobContext, payload: Note) -> None:
        seen.append((await jobs.get(job.id)).claim_at)
        async with job.transaction() as session:
            session.add(new_user(job))
        seen.append((await jobs.get(job.id)).claim_at)

    await make_runner(two_looks).run(await jobs.deliver())

    before, after = seen
    assert before is not None
    assert after is not None
    assert before < after
    assert await count_users(jobs) == 1


async def test_a_request_to_cancel_does_not_wait_for_the_transaction_of_a_handler(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def is_asked_to_end(job: JobContext, payload: Note) -> None:
        async with job.transaction(), jobs.database.sessions.begin() as other:
            await other.execute(text("SET LOCAL lock_timeout = '1ms'"))
            await other.execute(text("INSERT INTO job_cancellations (job_id) SELECT id FROM jobs"))

    delivery = await jobs.deliver()

    await make_runner(is_asked_to_end).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.COMPLETED


async def test_a_worker_runs_one_suspicious_job_at_a_time(jobs: Jobs, make_runner: MakeRunner) -> None:
    runner = make_runner(endless)
    suspect, other = await jobs.deliver(), await jobs.deliver()
    async with jobs.database.sessions.begin() as session:
        await session.execute(text(f"UPDATE jobs SET crashes = {SUSPICIOUS}"))
    running = asyncio.create_task(runner.run(suspect))
    await until(lambda: runner.lease_tasks)

    await runner.run(other)

    assert list(runner.lease_tasks) == [suspect]
    job = await jobs.get(other)
    assert (job.state, job.attempt) == (JobState.SCHEDULED, 0)
    assert job.claim_at is not None
    running.cancel()
    await asyncio.wait([running])
    assert not runner.suspects


async def test_a_suspicious_job_does_not_keep_others_from_running(jobs: Jobs, make_runner: MakeRunner) -> None:
    runner = make_runner(endless)
    suspect, other = await jobs.deliver(), await jobs.deliver()
    async with jobs.database.sessions.begin() as session:
        await session.execute(text(f"UPDATE jobs SET crashes = {SUSPICIOUS} WHERE id = '{suspect.id}'"))

    tasks = [asyncio.create_task(runner.run(delivery)) for delivery in (suspect, other)]

    await until(lambda: len(runner.lease_tasks) == len(tasks))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_the_last_transaction_of_a_job_completes_it(jobs: Jobs, make_runner: MakeRunner) -> None:
    seen = []

    @handles(Note, mode=Mode.LEASE)
    async def writes_and_fails(job: JobContext, payload: Note) -> None:
        await job.set_progress("half")
        await job.set_progress("all")
        async with job.last_transaction() as session:
            session.add(new_user(job))
        seen.append(await jobs.get(job.id))
        raise RuntimeError("too late to matter")

    delivery = await jobs.deliver()

    await make_runner(writes_and_fails).run(delivery)

    (job,) = seen
    assert (job.state, job.attempt, job.progress) == (JobState.COMPLETED, 1, "all")
    assert (await jobs.get(delivery)).state is JobState.COMPLETED
    assert await count_users(jobs) == 1


async def test_a_job_that_completed_itself_still_has_a_result(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def writes(job: JobContext, payload: Note) -> str:
        async with job.last_transaction():
            pass
        return "written"

    delivery = await jobs.deliver()

    await make_runner(writes).run(delivery)

    assert (await jobs.get(delivery)).result == "written"


async def test_a_zombie_has_no_last_transaction(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def loses_its_job(job: JobContext, payload: Note) -> None:
        await jobs.dispatch(job.id)
        async with job.last_transaction() as session:
            session.add(new_user(job))

    delivery = await jobs.deliver()

    await make_runner(loses_its_job).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.DISPATCHED
    assert await count_users(jobs) == 0


async def test_a_failure_that_cannot_be_recorded_is_given_up(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def fails(job: JobContext, payload: Note) -> None:
        raise RuntimeError

    delivery = await jobs.deliver()
    async with jobs.database.sessions.begin() as session:
        await session.execute(text("ALTER TABLE job_errors ADD CONSTRAINT ck_full CHECK (false) NOT VALID"))

    try:
        with capture_logs() as logs:
            await make_runner(fails).run(delivery)
    finally:
        async with jobs.database.sessions.begin() as session:
            await session.execute(text("ALTER TABLE job_errors DROP CONSTRAINT ck_full"))

    assert [event["event"] for event in logs] == ["job_outcome_not_recorded"]
    assert (await jobs.get(delivery)).state is JobState.EXECUTING


async def test_a_handler_knows_whose_job_it_is_and_when_it_was_to_run(jobs: Jobs, make_runner: MakeRunner) -> None:
    seen = []

    @handles(Note, mode=Mode.LEASE)
    async def look(job: JobContext, payload: Note) -> None:
        seen.append((job.owner_id, job.run_at))

    owner_id = new_id()
    delivery = await jobs.deliver(owner_id=owner_id)

    await make_runner(look).run(delivery)

    assert seen == [(owner_id, (await jobs.get(delivery)).run_at)]
