"""Jobs that a relay gives to the executor of its own process, without the queue; those in lease mode have started."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from app_db import Database
from app_db.jobs.ledger import Delivery
from app_db.models import JobState
from app_db.settings import DatabaseSettings
from app_db.testing.queries import assert_queries
from app_db.types import new_id
from app_worker.context import JobContext
from app_worker.delivery_queue import DeliveryQueue, Occupancy
from app_worker.executor import Executor
from app_worker.registry import Mode, handles
from app_worker.relay import Relay
from app_worker.runner import Runner

from .conftest import LEASE, Jobs, MakeRunner, Note, endless, eventually, open_executor, running, until, working
from .proxy import Proxy, over

NEVER = timedelta(hours=1)
IDLE = Occupancy(free_slots=3, waiting=0)


class Runs:
    """Records the deliveries that run, until the test sets `go`."""

    def __init__(self) -> None:
        self.started: list[Delivery] = []
        self.go = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> None:
        self.started.append(delivery)
        await self.go.wait()


@handles(Note, mode=Mode.LEASE)
async def leased(job: JobContext, payload: Note) -> str:
    """Return the text of the payload."""
    return payload.text


@handles(Note)
async def joined(job: JobContext, payload: Note) -> str:
    """Return the text of the payload, in tx mode."""
    return payload.text


def deliveries(count: int) -> list[Delivery]:
    return [Delivery(new_id(), 1) for _ in range(count)]


@asynccontextmanager
async def process(delivery_queue: DeliveryQueue, runner: Runner, *, slots: int) -> AsyncIterator[Relay]:
    """Run an executor whose relay leads, and that relay when it is told to."""
    executor = Executor(delivery_queue, slots=slots, timeout=NEVER, run=runner.run, leads=lambda: True)
    relay = Relay(runner.database, delivery_queue, LEASE, lambda: True, runner.metrics, executor, runner, poll=NEVER)
    executor.on_idle = relay.notify_idle
    async with working(executor):
        await relay.notified.wait()  # the executor has asked the queue in vain
        yield relay


async def offered(delivery_queue: DeliveryQueue, slots: int) -> None:
    """Wait until Valkey counts so many free slots."""

    async def is_so() -> bool:
        return (await delivery_queue.occupancy()).free_slots == slots

    await eventually(is_so)


async def idle(delivery_queue: DeliveryQueue, slots: int) -> None:
    """Wait until the executor has asked the queue in vain, and asks no more."""
    await offered(delivery_queue, slots)
    await asyncio.sleep(0.05)


async def have_ended(jobs: Jobs) -> bool:
    return bool(await jobs.scalar("SELECT bool_and(state = 'completed') FROM jobs"))


@pytest.mark.parametrize("handler", [leased, joined])
async def test_a_relay_starts_a_lone_job_in_its_own_process(
    jobs: Jobs, delivery_queue: DeliveryQueue, make_runner: MakeRunner, handler: object
) -> None:
    job_id = await jobs.enqueue()

    async with process(delivery_queue, make_runner(handler), slots=2) as relay:
        assert await relay.claim_and_push() == 1
        assert await delivery_queue.waiting() == []
        await eventually(lambda: have_ended(jobs))

    job = await jobs.get(job_id)
    assert (job.result, job.attempt, job.fence) == ("hello", 1, 1)


async def test_leased_jobs_start_with_their_claim_and_end_together(
    jobs: Jobs, delivery_queue: DeliveryQueue, make_runner: MakeRunner, database: Database
) -> None:
    runner = make_runner(leased)
    for number in range(10):
        await jobs.enqueue(Note(text=f"{number}"))

    async with process(delivery_queue, runner, slots=10) as relay:
        await relay.claim_and_push()  # it puts the queue on record too
        await eventually(lambda: have_ended(jobs))
        for number in range(10):
            await jobs.enqueue(Note(text=f"{number}"))

        with assert_queries(database, max=2):
            assert await relay.claim_and_push() == 10
            await until(lambda: not runner.running and not runner.started)

    assert await have_ended(jobs)


async def test_no_leased_job_waits_for_a_slot_of_a_process_that_starts_it_by_its_claim(
    jobs: Jobs, delivery_queue: DeliveryQueue, make_runner: MakeRunner
) -> None:
    runner = make_runner(endless)
    runner.expected_mode = Mode.LEASE
    for _ in range(5):
        await jobs.enqueue()

    async with process(delivery_queue, runner, slots=2) as relay:
        assert await relay.claim_and_push() == 2
        assert [await relay.claim_and_push(), await delivery_queue.waiting()] == [0, []]


async def test_a_process_that_leads_works_off_a_backlog(
    jobs: Jobs, delivery_queue: DeliveryQueue, make_runner: MakeRunner
) -> None:
    """Nothing but its own slots wakes it: the poll is an hour, and Valkey's notifications are not heard."""
    for _ in range(25):
        await jobs.enqueue()

    async with process(delivery_queue, make_runner(leased), slots=4) as relay, running(relay.run()):
        await eventually(lambda: have_ended(jobs))

    assert await jobs.scalar("SELECT bool_and(attempt = 1 AND fence = 1) FROM jobs")


async def test_an_executor_whose_relay_leads_offers_its_slots_to_no_other_relay(
    delivery_queue: DeliveryQueue,
) -> None:
    leads: list[bool] = []
    executor = Executor(delivery_queue, slots=2, timeout=NEVER, run=Runs(), leads=lambda: bool(leads))

    async with working(executor):
        await offered(delivery_queue, 2)
        leads.append(True)
        executor.notify()

        await offered(delivery_queue, 0)


async def test_a_claim_whose_reply_was_lost_is_no_crash(
    jobs: Jobs, delivery_queue: DeliveryQueue, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        runner = make_runner(leased, database=database)
        async with process(delivery_queue, runner, slots=2) as relay:
            await relay.claim_and_push()  # so that the statement is prepared
            job_id = await jobs.enqueue()
            proxy.cut_at = runner.worker_id.bytes
            async with running(relay.run()):
                await eventually(lambda: have_ended(jobs))

    job = await jobs.get(job_id)
    assert (job.attempt, job.crashes, job.redeliveries, job.fence) == (1, 0, 0, 2)


async def test_what_a_relay_had_started_when_it_was_stopped_is_given_back(
    jobs: Jobs, delivery_queue: DeliveryQueue, make_runner: MakeRunner, database_settings: DatabaseSettings
) -> None:
    async with Proxy(database_settings.url.get_secret_value()) as proxy, over(proxy) as database:
        runner = make_runner(leased, database=database)
        async with process(delivery_queue, runner, slots=2) as relay:
            await relay.claim_and_push()
            job_id = await jobs.enqueue()
            proxy.hold_at = runner.worker_id.bytes
            claiming = asyncio.create_task(relay.claim_and_push())
            await proxy.held.wait()
            claiming.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not claiming.done()  # what the claim does is not known yet
            proxy.may_pass.set()
            await asyncio.wait([claiming])
        proxy.hold_at = None
        assert (await jobs.get(job_id)).state is JobState.EXECUTING
        await runner.give_back_lost(["default"])

    job = await jobs.get(job_id)
    assert claiming.cancelled()
    assert (job.state, job.attempt, job.crashes) == (JobState.AVAILABLE, 0, 0)


async def test_slots_that_are_filled_without_the_queue_are_not_offered_in_it(delivery_queue: DeliveryQueue) -> None:
    runs = Runs()
    executor = open_executor(delivery_queue, runs, slots=3, poll=NEVER)

    async with working(executor):
        await idle(delivery_queue, 3)
        assert executor.reserve(IDLE) == 3
        executor.start(deliveries(2))
        await offered(delivery_queue, 1)
        # Else the count would expire by itself.
        await delivery_queue.valkey.hpersist(delivery_queue._free, executor._id)
        assert executor.reserve(IDLE) == 1
        executor.start(deliveries(1))
        await offered(delivery_queue, 0)
        runs.go.set()
        await offered(delivery_queue, 3)


async def test_deliveries_that_wait_in_the_queue_come_first(delivery_queue: DeliveryQueue) -> None:
    executor = open_executor(delivery_queue, Runs(), slots=3, poll=NEVER)

    assert executor.reserve(Occupancy(3, waiting=1)) == 0


async def test_slots_that_are_reserved_are_not_filled_from_the_queue(delivery_queue: DeliveryQueue) -> None:
    runs, pushed = Runs(), deliveries(2)
    executor = open_executor(delivery_queue, runs, slots=2, poll=NEVER)

    async with working(executor):
        await idle(delivery_queue, 2)
        assert executor.reserve(IDLE) == 2
        await delivery_queue.push(pushed)
        executor.notify()
        await asyncio.sleep(0.05)
        assert (runs.started, await delivery_queue.waiting()) == ([], pushed)

        executor.start([])
        await until(lambda: runs.started == pushed)
        runs.go.set()


async def test_slots_for_which_the_queue_is_asked_are_not_filled_without_it(delivery_queue: DeliveryQueue) -> None:
    """Else the answer would bring more deliveries than there are slots."""
    runs, wanted = Runs(), deliveries(3)
    executor = open_executor(delivery_queue, runs, slots=3, poll=NEVER)
    await delivery_queue.push(wanted)
    reserved: list[int] = []

    async def reserve_meanwhile() -> None:
        await asyncio.sleep(0)  # the executor has sent its question
        reserved.append(executor.reserve(IDLE))

    async with working(executor), asyncio.TaskGroup() as tasks:
        tasks.create_task(reserve_meanwhile())
        await until(lambda: len(runs.started) >= 3)
        await asyncio.sleep(0.05)
        runs.go.set()

    assert reserved == [0]
    assert runs.started == wanted


async def test_an_executor_that_stops_starts_none(delivery_queue: DeliveryQueue) -> None:
    executor = open_executor(delivery_queue, Runs(), slots=3)

    executor.stop()

    assert executor.reserve(IDLE) == 0
