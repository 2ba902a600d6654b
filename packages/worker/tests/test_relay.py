"""From the ledger into the window."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import pytest_asyncio
from redis.exceptions import RedisError
from sqlalchemy import text
from structlog.testing import capture_logs

from app_db.jobs.ledger import Delivery
from app_db.models import JobState
from app_worker.engine import Valkey, connect
from app_worker.relay import Relay

from .conftest import LEASE, Jobs, eventually, open_engine, until, working
from .proxy import Proxy

NEVER = timedelta(hours=1)


async def unused(delivery: Delivery) -> None:
    raise AssertionError("no engine works in this test")


@pytest_asyncio.fixture(loop_scope="session")
async def relay(jobs: Jobs, valkey: Valkey) -> Relay:
    return Relay(jobs.database, open_engine(valkey, unused, slots=2), LEASE, poll=NEVER)


@asynccontextmanager
async def relaying(relay: Relay) -> AsyncIterator[None]:
    """Let a relay run during the block."""
    task = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_due_jobs_are_dispatched_as_far_as_there_is_room(jobs: Jobs, relay: Relay, valkey: Valkey) -> None:
    for _ in range(5):
        await jobs.enqueue()

    assert await relay.dispatch() == 4

    assert await valkey.zcard("app:queue:default") == 4
    assert await jobs.scalar("SELECT count(*) FROM jobs WHERE state = 'available'") == 1


async def test_a_full_window_takes_nothing_more(jobs: Jobs, relay: Relay, valkey: Valkey) -> None:
    for _ in range(5):
        await jobs.enqueue()
    await relay.dispatch()

    assert await relay.dispatch() == 0

    assert await valkey.zcard("app:queue:default") == 4


async def test_urgent_jobs_are_dispatched_first(jobs: Jobs, relay: Relay, valkey: Valkey) -> None:
    last, second, first = [await jobs.enqueue(priority=priority) for priority in (3, 2, 0)]

    await relay.dispatch()

    order = await valkey.zrange("app:queue:default", 0, -1)
    assert order == [f"{job_id}:1".encode() for job_id in (first, second, last)]


async def test_jobs_of_other_queues_are_left_alone(jobs: Jobs, relay: Relay) -> None:
    await jobs.enqueue(queue="other")

    assert await relay.dispatch() == 0


async def test_two_relays_get_different_jobs(jobs: Jobs, valkey: Valkey) -> None:
    relays = [Relay(jobs.database, open_engine(valkey, unused, slots=5), LEASE) for _ in range(2)]
    for _ in range(8):
        await jobs.enqueue()

    await asyncio.gather(*(relay.dispatch() for relay in relays))

    assert await jobs.scalar("SELECT array_agg(DISTINCT fence) FROM jobs") == [1]
    assert await valkey.zcard("app:queue:default") == 8


async def test_a_dispatch_is_committed_before_it_is_sent(jobs: Jobs, relay: Relay, valkey: Valkey) -> None:
    job_id = await jobs.enqueue()

    async with writes_hang(valkey):
        task = asyncio.create_task(relay.dispatch())

        await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))
        assert not task.done()
    await task

    assert await valkey.zrange("app:queue:default", 0, -1) == [f"{job_id}:1".encode()]


async def test_an_unsent_job_is_due_at_once(jobs: Jobs, relay: Relay, valkey: Valkey) -> None:
    job_id = await jobs.enqueue()

    async with writes_are_refused(valkey):
        with pytest.raises(RedisError, match="maxmemory"):
            await relay.dispatch()

    job = await jobs.get(job_id)
    assert (job.state, job.fence) == (JobState.AVAILABLE, 1)
    assert await relay.dispatch() == 1


async def test_a_job_that_a_stopping_relay_has_not_sent_is_due_at_once(
    jobs: Jobs, relay: Relay, valkey: Valkey
) -> None:
    await jobs.enqueue()

    async with writes_hang(valkey):
        task = asyncio.create_task(relay.dispatch())
        await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))
        task.cancel()
        await asyncio.wait([task])

    assert await is_in_state(jobs, JobState.AVAILABLE)


async def test_nothing_is_dispatched_while_valkey_is_away(jobs: Jobs, valkey_url: str) -> None:
    job_id = await jobs.enqueue()
    async with Proxy(valkey_url) as proxy, connect(proxy.url, call_timeout=timedelta(seconds=1)) as valkey:
        await proxy.cut()

        with pytest.raises(RedisError):
            await Relay(jobs.database, open_engine(valkey, unused), LEASE).dispatch()

    job = await jobs.get(job_id)
    assert (job.state, job.fence) == (JobState.AVAILABLE, 0)


async def test_a_commit_wakes_the_relay(jobs: Jobs, relay: Relay) -> None:
    async with relaying(relay):
        await relay_listens(jobs)

        await jobs.enqueue()

        await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))


async def test_a_job_whose_wake_up_was_lost_is_found_by_the_next_look(jobs: Jobs, relay: Relay) -> None:
    relay.poll = timedelta(milliseconds=10)
    async with relaying(relay):
        await relay_listens(jobs)

        async with jobs.database.sessions.begin() as session:
            await session.execute(
                text(
                    "INSERT INTO jobs (id, kind, payload, payload_version, state, claim_at)"
                    " VALUES (uuidv7(), 'test.note', '{}', 1, 'available', now())"
                )
            )

        await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))


async def test_a_relay_listens_again_when_its_connection_was_lost(jobs: Jobs, relay: Relay) -> None:
    async with relaying(relay):
        await relay_listens(jobs)
        with capture_logs() as logs:
            await jobs.scalar(f"SELECT pg_terminate_backend(pid) {LISTENERS}")
            await until(lambda: logs)
        await relay_listens(jobs)

        await jobs.enqueue()

        await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))
    assert logs[0]["event"] == "listen_failed"


async def test_a_relay_goes_on_after_an_outage(jobs: Jobs, relay: Relay, valkey: Valkey) -> None:
    await jobs.enqueue()
    relay.poll = timedelta(0)

    with capture_logs() as logs:
        async with relaying(relay):
            async with writes_are_refused(valkey):
                await until(lambda: logs)

            await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))

    assert logs[0]["event"] == "dispatch_failed"


async def test_a_backlog_is_worked_off_without_waiting_for_the_next_look(jobs: Jobs, valkey: Valkey) -> None:
    ran = []

    async def run(delivery: Delivery) -> None:
        ran.append(delivery.id)

    def slot_freed() -> None:
        busy_relay.slot_freed()

    engine = open_engine(valkey, run, slot_freed=slot_freed)
    busy_relay = Relay(jobs.database, engine, LEASE, poll=NEVER)
    wanted = {await jobs.enqueue() for _ in range(20)}

    async with relaying(busy_relay), working(engine):
        await until(lambda: len(ran) == len(wanted))

    assert set(ran) == wanted


async def test_a_free_slot_wakes_nobody_when_no_job_was_left_behind(jobs: Jobs, relay: Relay) -> None:
    await jobs.enqueue()
    await relay.dispatch()

    relay.slot_freed()

    assert not relay.woken.is_set()


LISTENERS = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


async def relay_listens(jobs: Jobs) -> None:
    await eventually(lambda: jobs.scalar(f"SELECT count(*) {LISTENERS}"))


async def is_in_state(jobs: Jobs, state: JobState) -> bool:
    return bool(await jobs.scalar("SELECT state FROM jobs") == state)


@asynccontextmanager
async def writes_hang(valkey: Valkey) -> AsyncIterator[None]:
    """Valkey answers questions, but lets whoever writes wait."""
    await valkey.client_pause(60_000, all=False)
    try:
        yield
    finally:
        await valkey.client_unpause()


@asynccontextmanager
async def writes_are_refused(valkey: Valkey) -> AsyncIterator[None]:
    """Valkey answers questions, but its memory is full."""
    await valkey.config_set("maxmemory", "1")
    try:
        yield
    finally:
        await valkey.config_set("maxmemory", "0")
