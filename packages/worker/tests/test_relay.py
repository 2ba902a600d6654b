"""From the ledger into the delivery_queue."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest
import pytest_asyncio
from redis.exceptions import RedisError
from sqlalchemy import text
from structlog.testing import capture_logs

from app_db.jobs import control
from app_db.jobs.batches import enqueue_batch
from app_db.jobs.leadership import Leadership
from app_db.jobs.ledger import Delivery
from app_db.models import JobState
from app_worker.delivery_queue import DeliveryQueue, Valkey, connect
from app_worker.metrics import Metrics
from app_worker.notifications import NotificationListener
from app_worker.relay import Relay, keep_leading

from .conftest import LEASE, Jobs, MakeRunner, Note, eventually, open_executor, running, until, working
from .proxy import Proxy

NEVER = timedelta(hours=1)
TIMEOUT = timedelta(seconds=10)


def always() -> bool:
    return True


def open_relay(
    jobs: Jobs,
    delivery_queue: DeliveryQueue,
    *,
    leads: Callable[[], bool] = always,
    poll: timedelta = NEVER,
    lease: timedelta = LEASE,
) -> Relay:
    metrics = Metrics(kinds=(), queues=["default"])
    return Relay(jobs.database, delivery_queue, lease, leads, metrics, poll=poll)


@pytest_asyncio.fixture(loop_scope="session")
async def relay(jobs: Jobs, delivery_queue: DeliveryQueue) -> Relay:
    """A relay that finds two free slots."""
    await offer(delivery_queue, 2)
    return open_relay(jobs, delivery_queue)


async def test_due_jobs_are_dispatched_as_far_as_there_is_room(
    jobs: Jobs, relay: Relay, delivery_queue: DeliveryQueue
) -> None:
    for _ in range(5):
        await jobs.enqueue()

    assert await relay.claim_and_push() == 4

    assert len(await delivery_queue.waiting()) == 4
    assert await jobs.scalar("SELECT count(*) FROM jobs WHERE state = 'available'") == 1


async def test_a_full_delivery_queue_takes_nothing_more(
    jobs: Jobs, relay: Relay, delivery_queue: DeliveryQueue
) -> None:
    for _ in range(5):
        await jobs.enqueue()
    await relay.claim_and_push()

    assert await relay.claim_and_push() == 0

    assert len(await delivery_queue.waiting()) == 4


async def test_nothing_is_dispatched_while_every_slot_is_busy(jobs: Jobs, delivery_queue: DeliveryQueue) -> None:
    await jobs.enqueue()

    assert await open_relay(jobs, delivery_queue).claim_and_push() == 0

    assert await is_in_state(jobs, JobState.AVAILABLE)


async def test_urgent_jobs_are_dispatched_first(jobs: Jobs, relay: Relay, delivery_queue: DeliveryQueue) -> None:
    last, second, first = [await jobs.enqueue(priority=priority) for priority in (3, 2, 0)]

    await relay.claim_and_push()

    assert await delivery_queue.waiting() == [Delivery(job_id, 1) for job_id in (first, second, last)]


async def test_jobs_of_other_queues_are_left_alone(jobs: Jobs, relay: Relay) -> None:
    await jobs.enqueue(queue="other")

    assert await relay.claim_and_push() == 0


async def test_no_more_is_dispatched_than_the_limit_of_the_queue_allows(
    jobs: Jobs, relay: Relay, delivery_queue: DeliveryQueue
) -> None:
    async with jobs.database.sessions.begin() as session:
        await session.execute(text("INSERT INTO job_queues (name, max_running) VALUES ('default', 1)"))
    for _ in range(3):
        await jobs.enqueue()

    assert [await relay.claim_and_push(), await relay.claim_and_push()] == [1, 0]

    assert len(await delivery_queue.waiting()) == 1


async def test_two_relays_get_different_jobs(jobs: Jobs, delivery_queue: DeliveryQueue) -> None:
    relays = [open_relay(jobs, delivery_queue) for _ in range(2)]
    await offer(delivery_queue, 10)
    wanted = {await jobs.enqueue() for _ in range(8)}

    assert sum(await asyncio.gather(*(relay.claim_and_push() for relay in relays))) == 8

    waiting = await delivery_queue.waiting()
    assert ({delivery.id for delivery in waiting}, {delivery.fence for delivery in waiting}) == (wanted, {1})


async def test_two_relays_that_both_believe_to_lead_run_each_job_once(
    jobs: Jobs, delivery_queue: DeliveryQueue
) -> None:
    ran: list[Delivery] = []

    async def run(delivery: Delivery) -> None:
        ran.append(delivery)

    relays = [open_relay(jobs, delivery_queue, poll=timedelta(milliseconds=5)) for _ in range(2)]
    wanted = {await jobs.enqueue() for _ in range(100)}

    async with running(*(relay.run() for relay in relays)), working(open_executor(delivery_queue, run, slots=5)):
        await until(lambda: len(ran) >= len(wanted))
        await until_idle(delivery_queue)

    assert sorted(ran, key=lambda delivery: delivery.id) == [Delivery(job_id, 1) for job_id in sorted(wanted)]


async def test_a_relay_that_died_before_it_sent_a_job_delays_it_by_a_lease(jobs: Jobs, relay: Relay) -> None:
    delivery = await jobs.deliver()  # claimed and committed; then its relay dies
    assert await relay.claim_and_push() == 0

    await lease_runs_out(jobs)
    assert await relay.claim_and_push() == 1

    job = await jobs.get(delivery)
    assert (job.fence, job.redeliveries, job.attempt, job.crashes) == (2, 1, 0, 0)


async def test_a_job_is_committed_as_dispatched_before_it_is_sent(
    jobs: Jobs, relay: Relay, delivery_queue: DeliveryQueue
) -> None:
    job_id = await jobs.enqueue()

    async with writes_hang(delivery_queue.valkey):
        task = asyncio.create_task(relay.claim_and_push())

        await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))
        assert not task.done()
    await task

    assert await delivery_queue.waiting() == [Delivery(job_id, 1)]


async def test_an_unsent_job_is_due_at_once(jobs: Jobs, relay: Relay, delivery_queue: DeliveryQueue) -> None:
    job_id = await jobs.enqueue()

    async with memory_is_full(delivery_queue.valkey):
        with pytest.raises(RedisError, match="maxmemory"):
            await relay.claim_and_push()

    job = await jobs.get(job_id)
    assert (job.state, job.fence) == (JobState.AVAILABLE, 1)
    assert await relay.claim_and_push() == 1


async def test_a_job_that_a_stopping_relay_has_not_sent_is_due_at_once(
    jobs: Jobs, relay: Relay, delivery_queue: DeliveryQueue
) -> None:
    await jobs.enqueue()

    async with writes_hang(delivery_queue.valkey):
        task = asyncio.create_task(relay.claim_and_push())
        await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))
        task.cancel()
        await asyncio.wait([task])

    assert await is_in_state(jobs, JobState.AVAILABLE)


async def test_nothing_is_dispatched_while_valkey_is_away(jobs: Jobs, valkey_url: str) -> None:
    job_id = await jobs.enqueue()
    async with (
        Proxy(valkey_url) as proxy,
        connect(proxy.settings) as valkey,
    ):
        await proxy.cut()

        with pytest.raises(RedisError):
            await open_relay(jobs, DeliveryQueue(valkey, "default")).claim_and_push()

    job = await jobs.get(job_id)
    assert (job.state, job.fence) == (JobState.AVAILABLE, 0)


async def test_a_queue_is_on_record_once_it_was_served(jobs: Jobs, relay: Relay) -> None:
    await relay.claim_and_push()
    await relay.claim_and_push()

    assert await jobs.scalar("SELECT name FROM job_queues") == "default"


async def test_what_a_relay_claims_is_counted(jobs: Jobs, relay: Relay) -> None:
    await jobs.deliver()
    await lease_runs_out(jobs)
    await jobs.enqueue()

    await relay.claim_and_push()

    assert figures(relay) == {"app_jobs_claimed": 2, "app_job_redeliveries": 1, "app_job_crashes": 0}


async def test_what_waits_in_the_delivery_queue_is_shown(jobs: Jobs, relay: Relay) -> None:
    await jobs.enqueue()
    await relay.claim_and_push()

    await relay.claim_and_push()

    assert relay.metrics.registry.get_sample_value("app_job_deliveries_waiting", {"queue": "default"}) == 1


# --- waiting deliveries --------------------------------------------------------------------------------------------


async def test_what_waits_behind_slow_jobs_is_not_delivered_twice(jobs: Jobs, relay: Relay) -> None:
    job_id = await jobs.enqueue()
    await relay.claim_and_push()
    await lease_runs_out(jobs)

    await relay.renew_waiting()

    assert await relay.claim_and_push() == 0
    assert (await jobs.get(job_id)).fence == 1


async def test_a_relay_that_runs_renews_the_leases_of_waiting_deliveries(jobs: Jobs, relay: Relay) -> None:
    await jobs.enqueue()
    await relay.claim_and_push()
    await lease_runs_out(jobs)

    async with running(relay.run()):
        await eventually(lambda: jobs.scalar("SELECT claim_at > now() FROM jobs"))

    assert await jobs.scalar("SELECT redeliveries FROM jobs") == 0


async def test_an_admission_that_lets_nothing_in_claims_no_more(relay: Relay) -> None:
    await relay._admit()

    assert not relay.notified.is_set()


async def test_what_a_killed_worker_left_is_added_up(jobs: Jobs, relay: Relay, make_runner: MakeRunner) -> None:
    async with jobs.database.sessions.begin() as session:
        await enqueue_batch(session, [Note()])
        await session.execute(text("UPDATE jobs SET state = 'completed', claim_at = NULL, finished_at = now()"))
    relay.runner = make_runner()

    async with running(relay.run()):
        await eventually(lambda: jobs.scalar("SELECT ended_at IS NOT NULL FROM job_batches"))


async def test_what_waits_in_the_delivery_queue_of_a_paused_queue_is_taken_back(
    jobs: Jobs, relay: Relay, delivery_queue: DeliveryQueue
) -> None:
    job_id = await jobs.enqueue()
    await relay.claim_and_push()
    async with jobs.database.sessions.begin() as session:
        await control.pause(session, "default")

    await relay.renew_waiting()

    assert await delivery_queue.waiting() == []
    assert (await jobs.get(job_id)).state is JobState.AVAILABLE


async def test_a_relay_that_does_not_lead_leaves_everything_to_others(
    jobs: Jobs, delivery_queue: DeliveryQueue
) -> None:
    asked = []

    def never() -> bool:
        asked.append(True)
        return False

    await offer(delivery_queue, 2)
    await jobs.enqueue()
    relay = open_relay(jobs, delivery_queue, leads=never, poll=timedelta(0), lease=timedelta(0))

    async with running(relay.run()):
        await until(lambda: len(asked) > 10)

    assert await is_in_state(jobs, JobState.AVAILABLE)


# --- notifications -------------------------------------------------------------------------------------------------


async def test_a_commit_notifies_the_relay(jobs: Jobs, relay: Relay) -> None:
    async with leading(jobs, relay):
        await jobs.enqueue()

        await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))


async def test_a_job_whose_notification_was_lost_is_found_by_the_next_poll(jobs: Jobs, relay: Relay) -> None:
    relay.poll = timedelta(milliseconds=10)
    async with running(relay.run()):
        await insert_silently(jobs, "now()")

        await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))


async def test_a_job_that_is_due_since_long_ago_is_found_by_the_next_look(jobs: Jobs, relay: Relay) -> None:
    await relay.renew_waiting()  # so it knows that no job became due long ago
    relay.poll = timedelta(milliseconds=10)
    async with running(relay.run()):
        await insert_silently(jobs, "now() - interval '1 day'")

        await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))


async def test_a_relay_that_is_notified_looks_no_further_back_than_the_oldest_due_job(
    jobs: Jobs, delivery_queue: DeliveryQueue
) -> None:
    await offer(delivery_queue, 5)
    async with leading(jobs, open_relay(jobs, delivery_queue, lease=NEVER)):
        first = await jobs.enqueue()
        await eventually(lambda: is_waiting(delivery_queue, first))
        await insert_silently(jobs, "now() - interval '1 day'")  # among dead rows that vacuum cannot remove yet

        second = await jobs.enqueue()

        await eventually(lambda: is_waiting(delivery_queue, second))
        assert len(await delivery_queue.waiting()) == 2


async def test_a_relay_listens_again_when_its_connection_was_lost(jobs: Jobs, relay: Relay) -> None:
    async with leading(jobs, relay):
        with capture_logs() as logs:
            await jobs.scalar(f"SELECT pg_terminate_backend(pid) {LEADERS}")
            await until(lambda: logs)
        await eventually(lambda: jobs.scalar(f"SELECT count(*) {LEADERS}"))

        await jobs.enqueue()

        await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))
    assert logs[0]["event"] == "listen_failed"


async def test_a_relay_goes_on_after_an_outage(jobs: Jobs, relay: Relay, delivery_queue: DeliveryQueue) -> None:
    await jobs.enqueue()
    relay.poll = timedelta(0)

    with capture_logs() as logs:
        async with running(relay.run()), working(open_executor(delivery_queue, ignore)):
            async with memory_is_full(delivery_queue.valkey):
                await until(lambda: logs)

            await eventually(lambda: is_in_state(jobs, JobState.DISPATCHED))

    assert logs[0]["event"] == "claim_failed"


async def test_a_backlog_is_worked_off_without_waiting_for_the_next_look(
    jobs: Jobs, delivery_queue: DeliveryQueue
) -> None:
    ran = []

    async def run(delivery: Delivery) -> None:
        ran.append(delivery.id)

    executor = open_executor(delivery_queue, run, poll=NEVER)
    relay = open_relay(jobs, delivery_queue)
    listener = NotificationListener(
        delivery_queue.valkey,
        {delivery_queue.pushed_channel: executor.notify, delivery_queue.idle_channel: relay.notify_idle},
        call_timeout=timedelta(seconds=1),
    )
    wanted = {await jobs.enqueue() for _ in range(20)}

    async with running(listener.run(), relay.run()), working(executor):
        await until(lambda: len(ran) == len(wanted))

    assert set(ran) == wanted


async def test_an_idle_executor_notifies_nobody_when_no_job_was_left_behind(jobs: Jobs, relay: Relay) -> None:
    await jobs.enqueue()
    await relay.claim_and_push()

    relay.notify_idle()

    assert not relay.notified.is_set()


LEADERS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'worker-leader'"


@asynccontextmanager
async def leading(jobs: Jobs, relay: Relay) -> AsyncIterator[None]:
    """Run a relay that leads as soon as it has the lock."""
    settings = jobs.database.settings
    leadership = Leadership(
        settings.direct_dsn, ["default"], connect_timeout=TIMEOUT, on_notification=relay.notified.set
    )
    relay.leads = lambda: leadership.leads("default")
    async with running(keep_leading(leadership), relay.run()):
        await until(lambda: leadership.leads("default"))
        yield


async def offer(delivery_queue: DeliveryQueue, slots: int) -> None:
    """Offer slots as an executor does, but for as long as the test takes."""
    async with delivery_queue.valkey.pipeline() as pipe:
        pipe.hset("app:queue:default:free", "executor", str(slots))
        await pipe.execute()


async def ignore(delivery: Delivery) -> None: ...


async def is_waiting(delivery_queue: DeliveryQueue, job_id: UUID) -> bool:
    return Delivery(job_id, 1) in await delivery_queue.waiting()


async def until_idle(delivery_queue: DeliveryQueue) -> None:
    async def is_idle() -> bool:
        return (await delivery_queue.occupancy()).waiting == 0

    await eventually(is_idle)


async def lease_runs_out(jobs: Jobs) -> None:
    async with jobs.database.sessions.begin() as session:
        await session.execute(text("UPDATE jobs SET claim_at = now() WHERE state = 'dispatched'"))


async def insert_silently(jobs: Jobs, due: str) -> None:
    """Add a job by plain SQL, without a notification."""
    async with jobs.database.sessions.begin() as session:
        await session.execute(
            text(
                "INSERT INTO jobs (id, kind, payload, payload_version, state, claim_at)"
                f" VALUES (uuidv7(), 'test.note', '{{}}', 1, 'available', {due})"
            )
        )


async def is_in_state(jobs: Jobs, state: JobState) -> bool:
    return bool(await jobs.scalar("SELECT state FROM jobs") == state)


def figures(relay: Relay) -> dict[str, float | None]:
    get = relay.metrics.registry.get_sample_value
    names = ("app_jobs_claimed", "app_job_redeliveries", "app_job_crashes")
    return {name: get(f"{name}_total", {"queue": "default"}) for name in names}


@asynccontextmanager
async def writes_hang(valkey: Valkey) -> AsyncIterator[None]:
    """Valkey answers reads during the block, but lets writes wait."""
    await valkey.client_pause(60_000, all=False)
    try:
        yield
    finally:
        await valkey.client_unpause()


@asynccontextmanager
async def memory_is_full(valkey: Valkey) -> AsyncIterator[None]:
    """Valkey answers reads during the block, but refuses writes."""
    await valkey.config_set("maxmemory", "1")
    try:
        yield
    finally:
        await valkey.config_set("maxmemory", "0")
