"""What Valkey holds: a window of deliveries that may vanish, and how many slots wait for them."""

from datetime import timedelta

from app_db.jobs.ledger import Delivery
from app_db.types import new_id
from app_worker.engine import FREE_FOR, MAX_WINDOW, Look, Window, connect

from .proxy import Proxy


def deliveries(count: int) -> list[Delivery]:
    return [Delivery(new_id(), 1) for _ in range(count)]


async def test_two_deliveries_may_wait_for_each_free_slot(window: Window) -> None:
    await window.take("engine", 3)
    await window.push(deliveries(4))

    look = await window.look()

    assert (look.free_slots, look.waiting, look.room) == (3, 4, 2)


async def test_the_free_slots_of_all_engines_count(window: Window) -> None:
    await window.take("one", 3)
    await window.take("another", 2)

    assert (await window.look()).free_slots == 5


async def test_what_an_engine_takes_fills_its_slots(window: Window) -> None:
    await window.push(deliveries(2))
    await window.take("engine", 3)

    assert (await window.look()).free_slots == 1


async def test_an_engine_takes_no_more_than_it_has_slots(window: Window) -> None:
    await window.push(deliveries(3))

    taken = await window.take("engine", 2)

    assert (len(taken), await window.look()) == (2, Look(free_slots=0, waiting=1))


async def test_none_may_wait_when_all_slots_are_busy(window: Window) -> None:
    await window.take("engine", 2)
    await window.push(deliveries(2))
    await window.take("engine", 2)

    assert (await window.look()).room == 0


async def test_more_that_wait_than_there_is_room_for_leave_none() -> None:
    assert Look(free_slots=1, waiting=5).room == 0


async def test_no_more_may_wait_than_can_be_kept_in_order() -> None:
    assert Look(free_slots=100_000, waiting=0).room == MAX_WINDOW


async def test_an_engine_that_is_gone_is_forgotten_after_a_moment(window: Window) -> None:
    await window.take("engine", 2)

    (left,) = await window.valkey.hpttl("app:queue:default:free", "engine")

    assert 0 < left <= FREE_FOR / timedelta(milliseconds=1)


async def test_an_engine_that_leaves_offers_no_slots(window: Window) -> None:
    await window.take("engine", 2)

    await window.leave("engine")

    assert (await window.look()).free_slots == 0


async def test_what_waits_can_be_named(window: Window) -> None:
    pushed = deliveries(3)
    await window.push(pushed)

    assert await window.waiting() == pushed


async def test_queues_have_windows_of_their_own(window: Window) -> None:
    await window.push(deliveries(1))

    assert await Window(window.valkey, "other").take("engine", 1) == []


async def test_valkey_holds_id_and_fence_and_nothing_else(window: Window) -> None:
    (delivery,) = deliveries(1)

    await window.push([delivery])

    assert await window.valkey.keys() == [b"app:queue:default"]
    assert await window.valkey.zrange(window.key, 0, -1) == [f"{delivery.id}:1".encode()]


async def test_deliveries_are_pushed_in_one_round_trip(valkey_url: str) -> None:
    async with (
        Proxy(valkey_url) as proxy,
        connect(proxy.settings) as proxied,
    ):
        await proxied.ping()
        before = proxy.exchanges

        await Window(proxied, "default").push(deliveries(200))

        assert proxy.exchanges == before + 1


async def test_a_job_that_is_dispatched_again_takes_its_last_delivery_back(window: Window) -> None:
    (first,) = deliveries(1)
    await window.push([first])

    await window.push([Delivery(first.id, 2)])

    assert await window.waiting() == [Delivery(first.id, 2)]


async def test_what_was_taken_back_leaves_nothing_in_valkey(window: Window) -> None:
    (first,) = deliveries(1)
    await window.push([first])

    await window.push([Delivery(first.id, 2)])
