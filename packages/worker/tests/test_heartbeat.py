"""Heartbeats renew leases, and end jobs that are lost or that shall be cancelled."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from sqlalchemy import text
from structlog.testing import capture_logs

from app_db import open_database
from app_db.jobs import claims, control
from app_db.jobs.ledger import Delivery
from app_db.jobs.workers import WorkerRow
from app_db.models import JobState
from app_db.settings import DatabaseSettings, Pooler
from app_worker.context import JobContext
from app_worker.health import WorkerHealth
from app_worker.heartbeat import SHORTEST_PAUSE, Heartbeat
from app_worker.registry import Mode, handles
from app_worker.runner import Runner
from app_worker.settings import JobSettings

from .conftest import Jobs, MakeRunner, Note, endless, eventually, until
from .proxy import Proxy, over

SETTINGS = JobSettings(lease=timedelta(seconds=2))
SHORT = timedelta(seconds=1)


def make_heartbeat(runner: Runner, settings: JobSettings = SETTINGS, health: WorkerHealth | None = None) -> Heartbeat:
    worker = WorkerRow(runner.worker_id, "host", 1, ["default"], 10)
    return Heartbeat(runner.database, runner, worker, settings, health or WorkerHealth())


@asynccontextmanager
async def running(runner: Runner, delivery: Delivery) -> AsyncIterator[Delivery]:
    """Run a job during the block."""
    task = asyncio.create_task(runner.run(delivery))
    await until(lambda: delivery in runner.lease_tasks)
    try:
        yield delivery
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def beating(
    runner: Runner, settings: JobSettings = SETTINGS, health: WorkerHealth | None = None
) -> AsyncIterator[Heartbeat]:
    """Beat during the block."""
    heartbeat = make_heartbeat(runner, settings, health)
    task = asyncio.create_task(heartbeat.run())
    try:
        yield heartbeat
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_leases_are_renewed_while_a_job_runs(jobs: Jobs, make_runner: MakeRunner) -> None:
    runner = make_runner(endless, lease=SHORT)
    async with running(runner, await jobs.deliver()) as delivery:
        first = (await jobs.get(delivery)).claim_at
        assert first is not None

        async with beating(runner):

            async def renewed() -> bool:
                claim_at = (await jobs.get(delivery)).claim_at
                return claim_at is not None and claim_at > first

            await eventually(renewed)


async def test_a_worker_behind_a_pooler_says_what_to_set(
    make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    pooled = {"pooler": Pooler.TRANSACTION, "direct_url": database_settings.url}
    health = WorkerHealth()
    async with open_database(database_settings.model_copy(update=pooled), name="test") as database:
        await make_heartbeat(make_runner(endless, database=database), health=health).beat()

    complaint = health.report(SETTINGS).complaint
    assert complaint is not None
    assert complaint.startswith("No heartbeat has reached the database yet: behind a pooler the role has to carry ")


async def test_a_beat_says_for_how_long_the_loop_was_late(jobs: Jobs, make_runner: MakeRunner) -> None:
    health = WorkerHealth()
    async with health.loop.watched():
        await asyncio.sleep(0)
        time.sleep(1.2)  # noqa: ASYNC251  # a handler that blocks the loop
        await asyncio.sleep(0.05)

        await make_heartbeat(make_runner(endless), health=health).beat()

    assert await jobs.scalar("SELECT loop_lag FROM job_workers") > 0.1


async def test_a_job_that_was_lost_is_cancelled(jobs: Jobs, make_runner: MakeRunner) -> None:
    runner = make_runner(endless)
    async with running(runner, await jobs.deliver()) as delivery:
        await jobs.dispatch(delivery.id)

        async with beating(runner):
            await until(lambda: not runner.lease_tasks)

    job = await jobs.get(delivery)
    assert (job.state, job.fence) == (JobState.DISPATCHED, 2)


async def test_a_zombie_is_cancelled_although_the_same_worker_got_the_job_again(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    runner = make_runner(endless)
    async with (
        running(runner, await jobs.deliver()) as zombie,
        running(runner, await jobs.dispatch(zombie.id)) as current,
        beating(runner),
    ):
        await until(lambda: zombie not in runner.lease_tasks)

        assert current in runner.lease_tasks


async def test_one_job_in_a_transaction_does_not_keep_the_others_from_being_renewed(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def stays_in_a_transaction(job: JobContext, payload: Note) -> None:
        async with job.transaction():
            await asyncio.Event().wait()

    slow, other = make_runner(stays_in_a_transaction, lease=SHORT), make_runner(endless, lease=SHORT)
    async with running(slow, await jobs.deliver()) as first, running(other, await jobs.deliver()) as second:
        before = (await jobs.get(second)).claim_at
        assert before is not None
        other.lease_tasks.update(slow.lease_tasks)

        async with beating(other):

            async def renewed() -> bool:
                claim_at = (await jobs.get(second)).claim_at
                return claim_at is not None and claim_at > before

            await eventually(renewed)

        assert first in slow.lease_tasks


async def test_a_beat_that_fails_costs_no_job(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        runner = make_runner(endless, database=database, lease=SHORT)
        async with running(runner, await jobs.deliver()) as delivery:
            await proxy.cut()

            with capture_logs() as logs:
                await make_heartbeat(runner, JobSettings()).beat()

            assert [event["event"] for event in logs] == ["beat_failed"]
            assert not runner.lease_tasks[delivery].cancelling()


async def test_a_worker_that_nobody_hears_lets_go(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        runner = make_runner(endless, database=database, lease=SHORT)
        async with running(runner, await jobs.deliver()):
            await proxy.cut()

            async with beating(runner):
                await until(lambda: not runner.lease_tasks)

            await proxy.mend()


async def test_a_worker_lets_go_before_its_leases_end(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    # A lease whose fifths do not add up to the patience: beats alone would come too late.
    settings, health = JobSettings(lease=timedelta(seconds=6)), WorkerHealth()
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        runner = make_runner(endless, database=database, lease=SHORT)
        async with running(runner, await jobs.deliver()), beating(runner, settings, health):
            await until(lambda: health.beat_age < SHORTEST_PAUSE)
            await proxy.cut()

            await until(lambda: not runner.lease_tasks)

            assert health.beat_age < settings.running_lease.total_seconds()
            await proxy.mend()


async def test_a_failure_is_recorded_before_anybody_else_takes_the_job(
    jobs: Jobs, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    @handles(Note)
    async def fails_late(job: JobContext, payload: Note) -> None:
        await make_heartbeat(runner, JobSettings(lease=timedelta(minutes=1))).beat()
        raise RuntimeError("no luck")

    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        runner = make_runner(fails_late, database=database)
        delivery = await jobs.deliver()
        async with jobs.database.sessions.begin() as session:
            await session.execute(text("UPDATE jobs SET claim_at = now()"))
        proxy.hold_at = b"AS finish"  # in the statement that writes the outcome: the row is unlocked by then
        run = asyncio.create_task(runner.run(delivery))
        await proxy.held.wait()

        async with jobs.database.sessions.begin() as session:
            claim = await claims.claim(session, queue="default", max_jobs=1, lease=SHORT)

        assert claim.deliveries == ()
        proxy.may_pass.set()
        await run
    job = await jobs.get(delivery)
    assert (job.state, job.attempt, job.redeliveries) == (JobState.RETRYABLE, 1, 0)


async def test_a_running_job_is_cancelled_at_the_next_beat(jobs: Jobs, make_runner: MakeRunner) -> None:
    runner = make_runner(endless)
    async with running(runner, await jobs.deliver()) as delivery:
        async with jobs.database.sessions.begin() as session:
            await control.cancel(session, delivery.id)

        await make_heartbeat(runner).beat()

        await until(lambda: not runner.lease_tasks)

        async def is_cancelled() -> bool:
            return (await jobs.get(delivery)).state is JobState.CANCELLED

        await eventually(is_cancelled)


async def test_a_worker_that_is_notified_looks_at_once_for_cancelled_jobs(jobs: Jobs, make_runner: MakeRunner) -> None:
    runner = make_runner(endless)
    rare = JobSettings(lease=timedelta(hours=1))
    async with running(runner, await jobs.deliver()) as delivery, beating(runner, rare) as heartbeat:
        async with jobs.database.sessions.begin() as session:
            await control.cancel(session, delivery.id)

        heartbeat.notify()

        await until(lambda: not runner.lease_tasks)


async def test_a_worker_without_jobs_ignores_notifications(jobs: Jobs, make_runner: MakeRunner) -> None:
    rare = JobSettings(lease=timedelta(hours=1))
    async with beating(make_runner(endless), rare) as heartbeat:
        await eventually(lambda: has_beaten(jobs, 1))
        await jobs.scalar("SELECT pg_sleep(0.3)")  # the pause after a beat
        heartbeat.notify()
        await jobs.scalar("SELECT pg_sleep(0.3)")

        assert await has_beaten(jobs, 1)


async def test_a_worker_is_on_the_list_until_it_signs_off(jobs: Jobs, make_runner: MakeRunner) -> None:
    heartbeat = make_heartbeat(make_runner(endless))
    await heartbeat.beat()
    assert await jobs.scalar("SELECT draining FROM job_workers") is False
    heartbeat.drain()
    await heartbeat.beat()
    assert await jobs.scalar("SELECT draining FROM job_workers") is True

    await heartbeat.sign_off()

    assert await jobs.scalar("SELECT count(*) FROM job_workers") == 0


async def test_a_worker_stops_although_it_cannot_sign_off(
    make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        await proxy.cut()

        await make_heartbeat(make_runner(endless, database=database, lease=SHORT)).sign_off()


async def has_beaten(jobs: Jobs, times: int) -> bool:
    """Whether exactly `times` beats are on record: each rewrites the row of the worker."""
    query = "SELECT count(*) FROM job_workers WHERE beat_at = started_at"
    return bool(await jobs.scalar(query) == times)
