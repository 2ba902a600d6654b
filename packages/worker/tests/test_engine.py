"""Deliveries on their way through the slots of an engine."""

import asyncio
import pickle
from datetime import timedelta

import pytest

from app_db.jobs.ledger import Delivery
from app_db.types import new_id
from app_worker.engine import Window
from app_worker.notifications import NotificationListener

from .conftest import eventually, open_engine, running, until, working

NEVER = timedelta(hours=1)


class Ran:
    """Remembers what it was given to run; each run waits until the test lets it go."""

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


async def offers(window: Window, slots: int) -> bool:
    return (await window.look()).free_slots == slots


async def test_deliveries_run_in_the_order_in_which_they_were_pushed(window: Window) -> None:
    ran = Ran()
    wanted = sorted(deliveries(50), key=lambda delivery: delivery.id, reverse=True)
    await window.push(wanted)

    async with working(open_engine(window, ran)):
        await until(lambda: len(ran.ended) == len(wanted))

    assert ran.started == wanted


async def test_as_many_run_at_once_as_there_are_slots(window: Window) -> None:
    ran = Ran(waits=True)
    await window.push(deliveries(5))

    async with working(open_engine(window, ran, slots=3)):
        await until(lambda: len(ran.started) == 3)
        await offers(window, 0)

        assert len(await window.waiting()) == 2


async def test_a_running_job_leaves_nothing_in_the_queue_that_a_dead_worker_would_block(window: Window) -> None:
    ran = Ran(waits=True)
    await window.push(deliveries(1))

    async with working(open_engine(window, ran)):
        await until(lambda: ran.started)

        assert await window.waiting() == []
        ran.go.set()


async def test_nothing_is_left_in_valkey_when_all_is_done(window: Window) -> None:
    ran = Ran()
    await window.push(deliveries(5))

    async with working(open_engine(window, ran, slots=3)):
        await until(lambda: len(ran.ended) == 5)

    assert await window.valkey.keys() == []


async def test_a_new_delivery_starts_before_the_next_look(window: Window) -> None:
    ran = Ran()
    engine = open_engine(window, ran, poll=NEVER)
    listener = NotificationListener(window.valkey, {window.pushed: engine.notify}, call_timeout=timedelta(seconds=10))

    async with running(listener.run()), working(engine):
        await eventually(lambda: offers(window, 1))
        await window.push(deliveries(1))

        await until(lambda: ran.ended)


async def test_a_slot_that_is_free_again_is_filled_before_the_next_look(window: Window) -> None:
    ran = Ran()
    await window.push(deliveries(3))

    async with working(open_engine(window, ran, poll=NEVER)):
        await until(lambda: len(ran.ended) == 3)


async def test_an_engine_that_finds_too_little_says_so(window: Window) -> None:
    heard = asyncio.Event()
    listener = NotificationListener(window.valkey, {window.hungry: heard.set}, call_timeout=timedelta(seconds=10))
    async with running(listener.run()):
        await heard.wait()  # called once when the channel is subscribed
        heard.clear()

        await window.take("engine", 1)

        async with asyncio.timeout(20):
            await heard.wait()


async def test_an_engine_goes_on_offering_its_slots(window: Window) -> None:
    async with working(open_engine(window, Ran(), slots=3)):
        await eventually(lambda: offers(window, 3))
        await window.valkey.flushall()

        await eventually(lambda: offers(window, 3))


async def test_an_engine_that_stops_offers_no_slots(window: Window) -> None:
    async with working(open_engine(window, Ran(), slots=3)):
        await eventually(lambda: offers(window, 3))

    assert await offers(window, 0)


@pytest.mark.parametrize("name", [b"no delivery", b"\xff", pickle.dumps(["anything"])])
async def test_what_is_no_delivery_is_passed_over_and_never_loaded(window: Window, name: bytes) -> None:
    ran = Ran()
    kept = deliveries(1)
    await window.valkey.zadd(window.key, {name: 0})
    await window.push(kept)
    assert await window.waiting() == kept

    async with working(open_engine(window, ran, slots=2)):
        await until(lambda: ran.ended)

    assert ran.started == kept


async def test_what_a_run_raises_ends_neither_the_engine_nor_its_slot(window: Window) -> None:
    ran = []

    async def run(delivery: Delivery) -> None:
        ran.append(delivery)
        raise RuntimeError

    wanted = deliveries(3)
    await window.push(wanted)

    async with working(open_engine(window, run)):
        await until(lambda: len(ran) == 3)

    assert ran == wanted


async def test_a_run_that_takes_too_long_is_cancelled(window: Window) -> None:
    ran = Ran(waits=True)
    await window.push(deliveries(1))

    async with working(open_engine(window, ran, timeout=timedelta(milliseconds=10))):
        await until(lambda: ran.cancelled)


async def test_an_engine_that_stops_lets_running_jobs_finish_and_starts_none(window: Window) -> None:
    ran = Ran(waits=True)
    engine = open_engine(window, ran, slots=2)
    (first,) = deliveries(1)
    await window.push([first])
    work = asyncio.create_task(engine.work(grace=timedelta(seconds=30)))
    await until(lambda: ran.started)

    engine.stop()
    await window.push(deliveries(1))
    ran.go.set()
    await work

    assert (ran.started, ran.ended, ran.cancelled) == ([first], [first], [])


async def test_what_does_not_finish_in_time_is_cancelled(window: Window) -> None:
    ran = Ran(waits=True)
    (late,) = deliveries(1)
    await window.push([late])

    async with working(open_engine(window, ran)):  # and stops with no grace at all
        await until(lambda: ran.started)

    assert (ran.ended, ran.cancelled) == ([], [late])
