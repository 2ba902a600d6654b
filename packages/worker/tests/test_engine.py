"""Deliveries through Valkey: a window that may vanish, slots that may not."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from app_db.jobs.ledger import Delivery
from app_db.testing.processes import free_port
from app_db.testing.servers import ValkeyServer
from app_db.types import new_id
from app_worker.engine import Valkey, connect

from .conftest import open_engine, until, working
from .proxy import Proxy


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


async def test_two_deliveries_may_wait_for_each_free_slot(valkey: Valkey) -> None:
    engine = open_engine(valkey, Ran(), slots=3)
    assert await engine.room() == 6

    await engine.push(deliveries(4))

    assert await engine.room() == 2


async def test_none_may_wait_when_all_slots_are_busy(valkey: Valkey) -> None:
    ran = Ran(waits=True)
    engine = open_engine(valkey, ran, slots=2)
    await engine.push(deliveries(2))

    async with working(engine):
        await until(lambda: len(ran.started) == 2)

        assert await engine.room() == 0
        ran.go.set()


async def test_deliveries_run_in_the_order_in_which_they_were_pushed(valkey: Valkey) -> None:
    ran = Ran()
    engine = open_engine(valkey, ran)
    wanted = sorted(deliveries(50), key=lambda delivery: delivery.id, reverse=True)
    await engine.push(wanted)

    async with working(engine):
        await until(lambda: len(ran.ended) == len(wanted))

    assert ran.started == wanted


async def test_valkey_holds_id_and_fence_as_json_and_nothing_else(valkey: Valkey) -> None:
    (delivery,) = deliveries(1)

    await open_engine(valkey, Ran()).push([delivery])

    assert sorted(await valkey.keys()) == [b"app:queue:default", f"arq:job:{delivery.id}:1".encode()]
    stored = json.loads(await valkey.get(f"arq:job:{delivery.id}:1"))
    del stored["et"]
    assert stored == {"t": None, "f": "run", "a": [str(delivery.id), 1], "k": {}}


async def test_deliveries_are_pushed_in_one_round_trip(valkey_url: str, valkey: Valkey) -> None:
    async with Proxy(valkey_url) as proxy, connect(proxy.url, call_timeout=timedelta(seconds=10)) as proxied:
        await proxied.ping()
        before = proxy.exchanges

        await open_engine(proxied, Ran()).push(deliveries(200))

        assert proxy.exchanges == before + 1


async def test_a_job_that_is_dispatched_again_takes_its_last_delivery_back(valkey: Valkey) -> None:
    engine = open_engine(valkey, Ran())
    (first,) = deliveries(1)
    await engine.push([first])

    await engine.push([Delivery(first.id, 2)])

    assert await valkey.zrange("app:queue:default", 0, -1) == [f"{first.id}:2".encode()]


async def test_a_running_job_leaves_nothing_in_the_queue_that_a_dead_worker_would_block(valkey: Valkey) -> None:
    ran = Ran(waits=True)
    engine = open_engine(valkey, ran)
    await engine.push(deliveries(1))

    async with working(engine):
        await until(lambda: ran.started)

        assert await valkey.zcard("app:queue:default") == 0
        ran.go.set()


async def test_nothing_is_left_in_valkey_when_all_is_done(valkey: Valkey) -> None:
    ran = Ran()
    engine = open_engine(valkey, ran, slots=3)
    await engine.push(deliveries(5))

    async with working(engine):
        await until(lambda: len(ran.ended) == 5)

    assert await valkey.keys() == []


async def test_whoever_asked_is_told_when_a_slot_is_free_again(valkey: Valkey) -> None:
    rooms = []
    engine = open_engine(valkey, Ran(), slot_freed=lambda: rooms.append(engine._free_slots))
    await engine.push(deliveries(1))

    async with working(engine):
        await until(lambda: rooms)

    assert rooms == [1]


async def test_a_delivery_that_valkey_forgot_is_dropped(valkey: Valkey) -> None:
    ran = Ran()
    engine = open_engine(valkey, ran)
    forgotten, kept = deliveries(2)
    await engine.push([forgotten, kept])
    await valkey.delete(f"arq:job:{forgotten.id}:1")

    async with working(engine):
        await until(lambda: ran.ended)

    assert ran.started == [kept]


async def test_a_running_job_does_not_notice_that_valkey_forgets_everything(valkey: Valkey) -> None:
    ran = Ran(waits=True)
    engine = open_engine(valkey, ran)
    running, later = deliveries(2)
    await engine.push([running])

    async with working(engine):
        await until(lambda: ran.started)
        await valkey.flushall()
        ran.go.set()
        await until(lambda: ran.ended)
        await engine.push([later])
        await until(lambda: len(ran.ended) == 2)

    assert ran.ended == [running, later]


@pytest.fixture
def mortal_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey that may be stopped and started again at the same address."""
    with ValkeyServer(tmp_path_factory.mktemp("valkey"), port=free_port(), durable=False) as server:
        yield server


async def test_work_goes_on_with_all_slots_when_valkey_comes_back(mortal_valkey: ValkeyServer) -> None:
    ran = Ran(waits=True)
    running, later = deliveries(2)
    async with connect(mortal_valkey.url, call_timeout=timedelta(seconds=10)) as valkey:
        engine = open_engine(valkey, ran)
        await engine.push([running])

        async with working(engine):
            await until(lambda: ran.started)
            mortal_valkey.stop()
            with capture_logs() as logs:
                ran.go.set()  # it ends while arq cannot tidy up after it
                await until(lambda: len(logs) >= 2)  # nor can the next be fetched
            mortal_valkey.start()
            await engine.push([later])
            await until(lambda: len(ran.ended) == 2)

    assert {event["event"] for event in logs} == {"valkey_lost"}
    assert ran.ended == [running, later]


async def test_an_engine_that_stops_lets_running_jobs_finish_and_starts_none(valkey: Valkey) -> None:
    ran = Ran(waits=True)
    engine = open_engine(valkey, ran, slots=2)
    (running,) = deliveries(1)
    await engine.push([running])
    work = asyncio.create_task(engine.work(grace=timedelta(seconds=30)))
    await until(lambda: ran.started)

    engine.stop()
    await engine.push(deliveries(1))
    ran.go.set()
    await work

    assert (ran.started, ran.ended, ran.cancelled) == ([running], [running], [])


async def test_what_does_not_finish_in_time_is_cancelled(valkey: Valkey) -> None:
    ran = Ran(waits=True)
    engine = open_engine(valkey, ran)
    (running,) = deliveries(1)
    await engine.push([running])

    async with working(engine):  # and stops with no grace at all
        await until(lambda: ran.started)

    assert (ran.ended, ran.cancelled) == ([], [running])
