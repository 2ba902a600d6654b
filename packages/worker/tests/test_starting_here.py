"""Deliveries that a relay gives to the executor of its own process, without the queue."""

import asyncio
from datetime import timedelta

import pytest

from app_db.jobs.ledger import Delivery
from app_db.types import new_id
from app_worker.delivery_queue import DeliveryQueue, Occupancy
from app_worker.metrics import Metrics
from app_worker.relay import Relay

from .conftest import LEASE, Jobs, eventually, open_executor, until, working

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


def deliveries(count: int) -> list[Delivery]:
    return [Delivery(new_id(), 1) for _ in range(count)]


async def offered(delivery_queue: DeliveryQueue, slots: int) -> None:
    """Wait until Valkey counts so many free slots."""

    async def is_so() -> bool:
        return (await delivery_queue.occupancy()).free_slots == slots

    await eventually(is_so)


async def idle(delivery_queue: DeliveryQueue, slots: int) -> None:
    """Wait until the executor has asked the queue in vain, and asks no more."""
    await offered(delivery_queue, slots)
    await asyncio.sleep(0.05)


async def test_a_relay_starts_a_lone_job_in_its_own_process(jobs: Jobs, delivery_queue: DeliveryQueue) -> None:
    runs = Runs()
    executor = open_executor(delivery_queue, runs, slots=2, poll=NEVER)
    metrics = Metrics(kinds=(), queues=["default"])
    relay = Relay(jobs.database, delivery_queue, LEASE, lambda: True, metrics, start=executor.start, poll=NEVER)
    job_id = await jobs.enqueue()

    async with working(executor):
        await idle(delivery_queue, 2)
        assert await relay.claim_and_push() == 1
        assert await delivery_queue.waiting() == []
        await until(lambda: runs.started)
        runs.go.set()

    assert [delivery.id for delivery in runs.started] == [job_id]


@pytest.mark.parametrize(
    ("count", "free_elsewhere", "started"),
    [(1, 7, 1), (2, 3, 1), (5, 3, 3), (9, 0, 3), (9, 6, 3), (4, 3, 2), (0, 0, 0)],
)
async def test_an_executor_starts_its_share_of_what_all_free_slots_can_take(
    delivery_queue: DeliveryQueue, count: int, free_elsewhere: int, started: int
) -> None:
    runs, wanted = Runs(), deliveries(count)
    executor = open_executor(delivery_queue, runs, slots=3, poll=NEVER)

    async with working(executor):
        await idle(delivery_queue, 3)
        rest = executor.start(wanted, Occupancy(3 + free_elsewhere, waiting=0))
        await until(lambda: len(runs.started) == started)
        runs.go.set()

    assert runs.started == wanted[:started]
    assert list(rest) == wanted[started:]


async def test_slots_that_are_filled_without_the_queue_are_not_offered_in_it(delivery_queue: DeliveryQueue) -> None:
    runs = Runs()
    executor = open_executor(delivery_queue, runs, slots=3, poll=NEVER)

    async with working(executor):
        await idle(delivery_queue, 3)
        executor.start(deliveries(2), IDLE)
        await offered(delivery_queue, 1)
        # Else the count would expire by itself.
        await delivery_queue.valkey.hpersist(delivery_queue._free, executor._id)
        executor.start(deliveries(1), Occupancy(1, waiting=0))
        await offered(delivery_queue, 0)
        runs.go.set()
        await offered(delivery_queue, 3)


async def test_deliveries_that_wait_in_the_queue_come_first(delivery_queue: DeliveryQueue) -> None:
    runs, late = Runs(), deliveries(1)
    executor = open_executor(delivery_queue, runs, slots=3, poll=NEVER)

    assert executor.start(late, Occupancy(3, waiting=1)) == late


async def test_slots_for_which_the_queue_is_asked_are_not_filled_without_it(delivery_queue: DeliveryQueue) -> None:
    """Else the answer would bring more deliveries than there are slots."""
    runs, wanted = Runs(), deliveries(3)
    executor = open_executor(delivery_queue, runs, slots=3, poll=NEVER)
    await delivery_queue.push(wanted)
    rest: list[Delivery] = []

    async def start_meanwhile() -> None:
        await asyncio.sleep(0)  # the executor has sent its question
        rest.extend(executor.start(deliveries(2), IDLE))

    async with working(executor), asyncio.TaskGroup() as tasks:
        tasks.create_task(start_meanwhile())
        await until(lambda: len(runs.started) >= 3)
        await asyncio.sleep(0.05)
        runs.go.set()

    assert len(rest) == 2
    assert runs.started == wanted


async def test_an_executor_that_stops_starts_none(delivery_queue: DeliveryQueue) -> None:
    executor = open_executor(delivery_queue, Runs(), slots=3)
    wanted = deliveries(1)

    executor.stop()

    assert executor.start(wanted, IDLE) == wanted
