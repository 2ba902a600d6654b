"""The time limit of a handler, which is paused during a step that has its own limit."""

import asyncio
from datetime import timedelta

import pytest

from app_worker.time_limit import own_limits, time_limit

SHORT = timedelta(seconds=0.2)
LONGER = 0.3


async def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeoutError):
        async with time_limit(SHORT):
            await asyncio.sleep(60)


async def test_what_has_its_own_limits_does_not_count() -> None:
    async with time_limit(SHORT):
        with own_limits():
            await asyncio.sleep(LONGER)


async def test_what_was_left_is_left_afterwards() -> None:
    async def work() -> None:
        with own_limits():
            await asyncio.sleep(LONGER)
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        async with time_limit(SHORT):
            await work()


async def test_the_limit_stands_still_until_the_last_of_several_has_ended() -> None:
    async def one(seconds: float) -> None:
        with own_limits():
            await asyncio.sleep(seconds)

    async with time_limit(SHORT):
        await asyncio.gather(one(0.01), one(LONGER))


async def test_without_a_limit_there_is_nothing_to_halt() -> None:
    with own_limits():
        await asyncio.sleep(0)


async def test_a_limit_that_has_passed_is_not_set_anew() -> None:
    """The block that clears up after a time-out may send a mail, too."""
    cleared = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            with own_limits():
                await asyncio.sleep(0.01)
            cleared.set()

    with pytest.raises(TimeoutError):
        async with time_limit(SHORT):
            await work()

    assert cleared.is_set()


async def test_a_task_that_outlives_its_handler_has_no_limit_to_halt() -> None:
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        with own_limits():
            await asyncio.sleep(0)

    async with time_limit(SHORT):
        task = asyncio.create_task(work())
    go_on.set()

    await task
