"""Deliveries on their way through the slots of an executor."""

import asyncio
import pickle
from datetime import timedelta

import pytest

from app_db.jobs.ledger import Delivery
from app_db.types import new_id
from app_worker.delivery_queue import DeliveryQueue
from app_worker.notifications import NotificationListener

from .conftest import eventually, open_executor, running, until, working

NEVER = timedelta(hours=1)


class Ran:
    """Records the deliveries that it was given to run; each run can wait until the test sets `go`."""

    def __init__(self, *, waits: bool = False) -> None:
        self.started: list[Delivery] = []
        self.ended: list[Delivery] = []
        self.cancelled: list[Delivery] = []
        self.go = asyncio.Event()
        if not waits:
            self.go.set()

    async def __call__(self, delivery: Delivery) -> None:
        self.started.append(delivery)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(delivery)
            raise
        self.ended.append(delivery)


def deliveries(count: int) -> list[Delivery]:
    return [Delivery(new_id(), 1) for _ in range(count)]


async def offers(delivery_queue: DeliveryQueue, slots: int) -> bool:
    return (await delivery_queue.occupancy()).free_slots == slots


async def test_deliveries_run_in_the_order_in_which_they_were_pushed(delivery_queue: DeliveryQueue) -> None:
    ran = Ran()
    wanted = sorted(deliveries(50), key=lambda delivery: delivery.id, reverse=True)
    await delivery_queue.push(wanted)

    async with working(open_executor(delivery_queue, ran)):
        await until(lambda: len(ran.ended) == len(wanted))

    assert ran.started == wanted


async def test_as_many_run_at_once_as_there_are_slots(delivery_queue: DeliveryQueue) -> None:
    ran = Ran(waits=True)
    await delivery_queue.push(deliveries(5))

    async with working(open_executor(delivery_queue, ran, slots=3)):
        await until(lambda: len(ran.started) == 3)
        await offers(delivery_queue, 0)

        assert len(await delivery_queue.waiting()) == 2


async def test_a_running_job_leaves_nothing_in_the_queue_that_a_dead_worker_would_block(
    delivery_queue: DeliveryQueue,
) -> None:
    ran = Ran(waits=True)
    await delivery_queue.push(deliveries(1))

    async with working(open_executor(delivery_queue, ran)):
        await until(lambda: ran.started)

        assert await delivery_queue.waiting() == []
        ran.go.set()


async def test_nothing_is_left_in_valkey_when_all_is_done(delivery_queue: DeliveryQueue) -> None:
    ran = Ran()
    await delivery_queue.push(deliveries(5))

    async with working(open_executor(delivery_queue, ran, slots=3)):
        await until(lambda: len(ran.ended) == 5)

    assert await delivery_queue.valkey.keys() == []


async def test_a_new_delivery_starts_before_the_next_look(delivery_queue: DeliveryQueue) -> None:
    ran = Ran()
    executor = open_executor(delivery_queue, ran, poll=NEVER)
    listener = NotificationListener(
        delivery_queue.valkey, {delivery_queue.pushed_channel: executor.notify}, call_timeout=timedelta(seconds=10)
    )

    async with running(listener.run()), working(executor):
        await eventually(lambda: offers(delivery_queue, 1))
        await delivery_queue.push(deliveries(1))

        await until(lambda: ran.ended)


async def test_a_slot_that_is_free_again_is_filled_before_the_next_look(delivery_queue: DeliveryQueue) -> None:
    ran = Ran()
    await delivery_queue.push(deliveries(3))

    async with working(open_executor(delivery_queue, ran, poll=NEVER)):
        await until(lambda: len(ran.ended) == 3)


async def test_an_executor_that_finds_too_little_says_so(delivery_queue: DeliveryQueue) -> None:
    heard = asyncio.Event()
    listener = NotificationListener(
        delivery_queue.valkey, {delivery_queue.idle_channel: heard.set}, call_timeout=timedelta(seconds=10)
    )
    async with running(listener.run()):
        await heard.wait()  # called once when the channel is subscribed
        heard.clear()

        await delivery_queue.take("executor", 1)

        async with asyncio.timeout(45):
            await heard.wait()


async def test_an_executor_goes_on_offering_its_slots(delivery_queue: DeliveryQueue) -> None:
    async with working(open_executor(delivery_queue, Ran(), slots=3)):
        await eventually(lambda: offers(delivery_queue, 3))
        await delivery_queue.valkey.flushall()

        await eventually(lambda: offers(delivery_queue, 3))


async def test_an_executor_that_stops_offers_no_slots(delivery_queue: DeliveryQueue) -> None:
    async with working(open_executor(delivery_queue, Ran(), slots=3)):
        await eventually(lambda: offers(delivery_queue, 3))

    assert await offers(delivery_queue, 0)


@pytest.mark.parametrize("name", [b"no delivery", b"\xff", pickle.dumps(["anything"])])
async def test_what_is_no_delivery_is_passed_over_and_never_loaded(delivery_queue: DeliveryQueue, name: bytes) -> None:
    ran = Ran()
    kept = deliveries(1)
    await delivery_queue.valkey.zadd(delivery_queue.key, {name: 0})
    await delivery_queue.push(kept)
    assert await delivery_queue.waiting() == kept

    async with working(open_executor(delivery_queue, ran, slots=2)):
        await until(lambda: ran.ended)

    assert ran.started == kept


async def test_what_a_run_raises_ends_neither_the_executor_nor_its_slot(delivery_queue: DeliveryQueue) -> None:
    ran = []

    async def run(delivery: Delivery) -> None:
        ran.append(delivery)
        raise RuntimeError

    wanted = deliveries(3)
    await delivery_queue.push(wanted)

    async with working(open_executor(delivery_queue, run)):
        await until(lambda: len(ran) == 3)

    assert ran == wanted


async def test_a_run_that_takes_too_long_is_cancelled(delivery_queue: DeliveryQueue) -> None:
    ran = Ran(waits=True)
    await delivery_queue.push(deliveries(1))

    async with working(open_executor(delivery_queue, ran, timeout=timedelta(milliseconds=10))):
        await until(lambda: ran.cancelled)


async def test_an_executor_that_stops_lets_running_jobs_finish_and_starts_none(delivery_queue: DeliveryQueue) -> None:
    ran = Ran(waits=True)
    executor = open_executor(delivery_queue, ran, slots=2)
    (first,) = deliveries(1)
    await delivery_queue.push([first])
    work = asyncio.create_task(executor.work(grace=timedelta(seconds=30)))
    await until(lambda: ran.started)

    executor.stop()
    await delivery_queue.push(deliveries(1))
    ran.go.set()
    await work

    assert (ran.started, ran.ended, ran.cancelled) == ([first], [first], [])


async def test_what_does_not_finish_in_time_is_cancelled(delivery_queue: DeliveryQueue) -> None:
    ran = Ran(waits=True)
    (late,) = deliveries(1)
    await delivery_queue.push([late])

    async with working(open_executor(delivery_queue, ran)):  # and stops with no grace at all
        await until(lambda: ran.started)

    assert (ran.ended, ran.cancelled) == ([], [late])
