"""Outages of Valkey, which end neither a job nor a worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from app_db.jobs.ledger import Delivery
from app_runtime.testing.servers import ValkeyServer
from app_runtime.valkey import ValkeySettings
from app_worker.delivery_queue import DeliveryQueue, connect
from app_worker.metrics import Metrics
from app_worker.notifications import NotificationListener
from app_worker.relay import Relay

from .conftest import LEASE, Jobs, frozen, open_executor, running, until, working
from .proxy import Proxy
from .test_executor import Ran, deliveries

pytestmark = pytest.mark.integration

CALL_TIMEOUT = timedelta(seconds=1)
POLL = timedelta(milliseconds=100)
LONGEST_CALL = 1.5
"""Seconds: the promised `CALL_TIMEOUT`, and a margin for a busy machine."""


@asynccontextmanager
async def delivery_queue_of(server: ValkeyServer) -> AsyncIterator[DeliveryQueue]:
    async with connect(ValkeySettings.model_validate({"url": server.url, "timeout": CALL_TIMEOUT})) as valkey:
        yield DeliveryQueue(valkey, "default")


@pytest.mark.parametrize("call", ["occupancy", "push", "waiting", "take", "leave"])
async def test_every_call_to_a_frozen_valkey_ends(mortal_valkey: ValkeyServer, call: str) -> None:
    async with delivery_queue_of(mortal_valkey) as delivery_queue:
        some: dict[str, list[Any]] = {"push": [deliveries(1)], "take": ["executor", 1], "leave": ["executor"]}
        arguments = some.get(call, [])
        await getattr(delivery_queue, call)(*arguments)

        with frozen(mortal_valkey):
            async with asyncio.timeout(LONGEST_CALL):
                with pytest.raises((RedisError, OSError)):
                    await getattr(delivery_queue, call)(*arguments)


async def test_calls_to_a_frozen_valkey_do_not_wait_for_each_other(mortal_valkey: ValkeyServer) -> None:
    async with delivery_queue_of(mortal_valkey) as delivery_queue:
        with frozen(mortal_valkey):
            async with asyncio.timeout(LONGEST_CALL):  # one by one they would take longer
                outcomes = await asyncio.gather(
                    *(delivery_queue.occupancy() for _ in range(100)), return_exceptions=True
                )

    assert all(isinstance(outcome, RedisError | OSError) for outcome in outcomes)


async def test_jobs_end_while_valkey_is_frozen_and_work_goes_on_when_it_thaws(mortal_valkey: ValkeyServer) -> None:
    ran = Ran(waits=True)
    before, after = deliveries(2), deliveries(2)
    async with delivery_queue_of(mortal_valkey) as delivery_queue:
        await delivery_queue.push(before)
        async with working(open_executor(delivery_queue, ran, slots=2)):
            await until(lambda: len(ran.started) == 2)

            with frozen(mortal_valkey), capture_logs() as logs:
                ran.go.set()
                await until(lambda: len(ran.ended) == 2)
                await until(lambda: logs)

            await delivery_queue.push(after)
            await until(lambda: len(ran.ended) == 4)
    assert ran.ended == [*before, *after]


async def test_work_goes_on_with_all_slots_when_valkey_comes_back(mortal_valkey: ValkeyServer) -> None:
    ran = Ran(waits=True)
    first, later = deliveries(2)
    async with delivery_queue_of(mortal_valkey) as delivery_queue:
        await delivery_queue.push([first])

        async with working(open_executor(delivery_queue, ran)):
            await until(lambda: ran.started)
            mortal_valkey.stop()
            with capture_logs() as logs:
                ran.go.set()
                await until(lambda: logs)  # the next cannot be fetched
            mortal_valkey.start()
            await delivery_queue.push([later])
            await until(lambda: len(ran.ended) == 2)

    assert {event["event"] for event in logs} == {"valkey_lost"}
    assert ran.ended == [first, later]


async def test_what_comes_right_after_a_restart_is_not_lost_on_dead_connections(mortal_valkey: ValkeyServer) -> None:
    ran = Ran()
    async with delivery_queue_of(mortal_valkey) as delivery_queue:
        await asyncio.gather(
            *(delivery_queue.occupancy() for _ in range(10))
        )  # ten connections, which the restart closes
        mortal_valkey.stop()
        mortal_valkey.start()

        wanted = deliveries(10)
        await delivery_queue.push(wanted)
        async with working(open_executor(delivery_queue, ran, slots=10)):
            await until(lambda: len(ran.ended) == 10)

    assert set(ran.ended) == set(wanted)


async def test_connections_that_are_killed_are_replaced(delivery_queue: DeliveryQueue) -> None:
    ran = Ran()
    await asyncio.gather(*(delivery_queue.occupancy() for _ in range(5)))
    await delivery_queue.valkey.client_kill_filter(_type="normal", skipme=True)

    wanted = deliveries(5)
    await delivery_queue.push(wanted)
    async with working(open_executor(delivery_queue, ran, slots=5)):
        await until(lambda: len(ran.ended) == 5)

    assert set(ran.ended) == set(wanted)


async def test_a_running_job_does_not_notice_that_valkey_forgets_everything(delivery_queue: DeliveryQueue) -> None:
    ran = Ran(waits=True)
    first, later = deliveries(2)
    await delivery_queue.push([first])

    async with working(open_executor(delivery_queue, ran)):
        await until(lambda: ran.started)
        await delivery_queue.valkey.flushall()
        ran.go.set()
        await until(lambda: ran.ended)
        await delivery_queue.push([later])
        await until(lambda: len(ran.ended) == 2)

    assert ran.ended == [first, later]


async def test_a_valkey_that_forgot_our_script_is_told_again(delivery_queue: DeliveryQueue) -> None:
    await delivery_queue.take("executor", 1)
    await delivery_queue.valkey.script_flush()

    await delivery_queue.take("executor", 2)

    assert (await delivery_queue.occupancy()).free_slots == 2


async def test_a_full_memory_loses_nothing_that_is_taken(mortal_valkey: ValkeyServer) -> None:
    pushed = deliveries(2)
    async with delivery_queue_of(mortal_valkey) as delivery_queue:
        await delivery_queue.push(pushed)
        await delivery_queue.valkey.config_set("maxmemory", "1")

        taken = await delivery_queue.take("executor", 3)

        assert taken == pushed


async def test_a_full_memory_leaves_the_backlog_in_the_ledger(jobs: Jobs, mortal_valkey: ValkeyServer) -> None:
    ran: list[Delivery] = []

    async def run(delivery: Delivery) -> None:
        ran.append(delivery)

    async with delivery_queue_of(mortal_valkey) as delivery_queue:
        metrics = Metrics(kinds=(), queues=["default"])
        relay = Relay(jobs.database, delivery_queue, LEASE, lambda: True, metrics, poll=POLL)
        async with running(relay.run()), working(open_executor(delivery_queue, run, slots=2)):
            await delivery_queue.valkey.config_set("maxmemory", "1")
            with capture_logs() as logs:
                wanted = {await jobs.enqueue() for _ in range(10)}
                await until(lambda: len(logs) >= 2)
            assert await jobs.scalar("SELECT count(*) FROM jobs WHERE fence = 0") > 0
            assert await delivery_queue.waiting() == []
            assert relay.is_refused

            await delivery_queue.valkey.config_set("maxmemory", "0")
            await until(lambda: len(ran) == 10 and not relay.is_refused)

    assert {delivery.id for delivery in ran} == wanted


async def test_jobs_run_again_after_each_outage(jobs: Jobs, mortal_valkey: ValkeyServer) -> None:
    ran: list[Delivery] = []

    async def run(delivery: Delivery) -> None:
        ran.append(delivery)

    async with delivery_queue_of(mortal_valkey) as delivery_queue:
        metrics = Metrics(kinds=(), queues=["default"])
        relay = Relay(jobs.database, delivery_queue, LEASE, lambda: True, metrics, poll=POLL)
        executor = open_executor(delivery_queue, run, slots=2, poll=POLL)
        callbacks = {delivery_queue.pushed_channel: executor.notify, delivery_queue.idle_channel: relay.notify_idle}
        listener = NotificationListener(delivery_queue.valkey, callbacks, call_timeout=CALL_TIMEOUT)
        async with running(relay.run(), listener.run()), working(executor):
            for _ in range(3):
                job_id = await jobs.enqueue()
                await until(partial(has_run, ran, job_id))
                mortal_valkey.stop()
                mortal_valkey.start()

    assert {delivery.fence for delivery in ran} == {1}


def has_run(ran: list[Delivery], job_id: UUID) -> bool:
    return job_id in {delivery.id for delivery in ran}


async def test_a_worker_leaves_a_valkey_that_was_demoted(mortal_valkey: ValkeyServer) -> None:
    """Its connections live on (Valkey, "Replication"), so nothing but READONLY tells that another took over."""
    with ValkeyServer.temporary() as promoted:
        async with Proxy(mortal_valkey.url) as proxy, connect(proxy.settings) as valkey:
            delivery_queue = DeliveryQueue(valkey, "default")
            await delivery_queue.push(deliveries(1))
            await demote(valkey)
            proxy.lead_to(promoted.url)
            await take_the_password_of(mortal_valkey, promoted)

            await delivery_queue.push(deliveries(2))

            assert len(await delivery_queue.waiting()) == 2


async def test_notifications_leave_a_valkey_that_was_demoted(mortal_valkey: ValkeyServer) -> None:
    rung = asyncio.Event()
    with ValkeyServer.temporary() as promoted:
        async with (
            Proxy(mortal_valkey.url) as proxy,
            connect(proxy.settings) as valkey,
            running(NotificationListener(valkey, {"one": rung.set}, call_timeout=POLL).run()),
        ):
            await until(rung.is_set)
            rung.clear()
            await demote(valkey)
            proxy.lead_to(promoted.url)
            await take_the_password_of(mortal_valkey, promoted)
            await valkey.set("app:x", "1")  # as every look of an executor writes

            await until(rung.is_set)  # it is heard again, on the other server
            rung.clear()
            async with Redis.from_url(promoted.url.replace(promoted.password, mortal_valkey.password)) as other:
                await other.publish("one", "")
            await until(rung.is_set)


async def demote(valkey: Any) -> None:  # Any: it has no types for this
    await valkey.execute_command("REPLICAOF", "127.0.0.1", "1")


async def take_the_password_of(first: ValkeyServer, second: ValkeyServer) -> None:
    async with Redis.from_url(second.url) as operator:
        await operator.config_set("requirepass", first.password)
