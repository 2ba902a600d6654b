"""The state in Valkey: deliveries that may vanish, and the number of slots that wait for them."""

from datetime import timedelta

from app_db.jobs.ledger import Delivery
from app_db.types import new_id
from app_worker.delivery_queue import FREE_SLOTS_TTL, MAX_WAITING, DeliveryQueue, Occupancy, connect

from .proxy import Proxy


def deliveries(count: int) -> list[Delivery]:
    return [Delivery(new_id(), 1) for _ in range(count)]


async def test_two_deliveries_may_wait_for_each_free_slot(delivery_queue: DeliveryQueue) -> None:
    await delivery_queue.take("executor", 3)
    await delivery_queue.push(deliveries(4))

    occupancy = await delivery_queue.occupancy()

    assert (occupancy.free_slots, occupancy.waiting, occupancy.capacity) == (3, 4, 2)


async def test_the_free_slots_of_all_executors_count(delivery_queue: DeliveryQueue) -> None:
    await delivery_queue.take("one", 3)
    await delivery_queue.take("another", 2)

    assert (await delivery_queue.occupancy()).free_slots == 5


async def test_what_an_executor_takes_fills_its_slots(delivery_queue: DeliveryQueue) -> None:
    await delivery_queue.push(deliveries(2))
    await delivery_queue.take("executor", 3)

    assert (await delivery_queue.occupancy()).free_slots == 1


async def test_an_executor_takes_no_more_than_it_has_slots(delivery_queue: DeliveryQueue) -> None:
    await delivery_queue.push(deliveries(3))

    taken = await delivery_queue.take("executor", 2)

    assert (len(taken), await delivery_queue.occupancy()) == (2, Occupancy(free_slots=0, waiting=1))


async def test_none_may_wait_when_all_slots_are_busy(delivery_queue: DeliveryQueue) -> None:
    await delivery_queue.take("executor", 2)
    await delivery_queue.push(deliveries(2))
    await delivery_queue.take("executor", 2)

    assert (await delivery_queue.occupancy()).capacity == 0


async def test_more_that_wait_than_there_is_room_for_leave_none() -> None:
    assert Occupancy(free_slots=1, waiting=5).capacity == 0


async def test_no_more_may_wait_than_can_be_kept_in_order() -> None:
    assert Occupancy(free_slots=100_000, waiting=0).capacity == MAX_WAITING


async def test_an_executor_that_is_gone_is_forgotten_after_a_moment(delivery_queue: DeliveryQueue) -> None:
    await delivery_queue.take("executor", 2)

    (left,) = await delivery_queue.valkey.hpttl("app:queue:default:free", "executor")

    assert 0 < left <= FREE_SLOTS_TTL / timedelta(milliseconds=1)


async def test_an_executor_that_leaves_offers_no_slots(delivery_queue: DeliveryQueue) -> None:
    await delivery_queue.take("executor", 2)

    await delivery_queue.leave("executor")

    assert (await delivery_queue.occupancy()).free_slots == 0


async def test_what_waits_can_be_named(delivery_queue: DeliveryQueue) -> None:
    pushed = deliveries(3)
    await delivery_queue.push(pushed)

    assert await delivery_queue.waiting() == pushed


async def test_queues_have_deliveries_of_their_own(delivery_queue: DeliveryQueue) -> None:
    await delivery_queue.push(deliveries(1))

    assert await DeliveryQueue(delivery_queue.valkey, "other").take("executor", 1) == []


async def test_valkey_holds_id_and_fence_and_nothing_else(delivery_queue: DeliveryQueue) -> None:
    (delivery,) = deliveries(1)

    await delivery_queue.push([delivery])

    assert await delivery_queue.valkey.keys() == [b"app:queue:default"]
    assert await delivery_queue.valkey.zrange(delivery_queue.key, 0, -1) == [f"{delivery.id}:1".encode()]


async def test_deliveries_are_pushed_in_one_round_trip(valkey_url: str) -> None:
    async with (
        Proxy(valkey_url) as proxy,
        connect(proxy.settings) as proxied,
    ):
        await proxied.ping()
        before = proxy.exchanges

        await DeliveryQueue(proxied, "default").push(deliveries(200))

        assert proxy.exchanges == before + 1


async def test_a_job_that_is_dispatched_again_takes_its_last_delivery_back(delivery_queue: DeliveryQueue) -> None:
    (first,) = deliveries(1)
    await delivery_queue.push([first])

    await delivery_queue.push([Delivery(first.id, 2)])

    assert await delivery_queue.waiting() == [Delivery(first.id, 2)]


async def test_what_was_taken_back_leaves_nothing_in_valkey(delivery_queue: DeliveryQueue) -> None:
    (first,) = deliveries(1)
    await delivery_queue.push([first])

    await delivery_queue.push([Delivery(first.id, 2)])
    await delivery_queue.take("executor", 1)

    assert await delivery_queue.valkey.keys() == []
