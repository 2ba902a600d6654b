"""What many jobs ask of Valkey at the same moment."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import RedisError, ResponseError

from app_worker.engine import Valkey, connect
from app_worker.pipelines import Pipelines

from .proxy import Proxy

TIMEOUT = timedelta(seconds=10)


async def ask(pipelines: Pipelines, *commands: tuple[str, ...]) -> list[Any]:
    """As arq does."""
    async with pipelines.pipeline(transaction=True) as pipe:
        for name, *arguments in commands:
            getattr(pipe, name)(*arguments)
        return await pipe.execute()


async def test_each_hears_the_answers_to_its_own_commands(valkey: Valkey) -> None:
    pipelines = Pipelines(valkey)

    answers = await asyncio.gather(
        *(ask(pipelines, ("set", f"key {number}", str(number)), ("get", f"key {number}")) for number in range(20))
    )

    assert answers == [[True, str(number).encode()] for number in range(20)]


async def test_what_is_asked_at_the_same_moment_takes_one_round_trip(valkey_url: str) -> None:
    async with Proxy(valkey_url) as proxy, connect(proxy.url, call_timeout=TIMEOUT) as proxied:
        pipelines = Pipelines(proxied)
        await ask(pipelines, ("get", "key"))
        before = proxy.exchanges

        await asyncio.gather(*(ask(pipelines, ("get", "key")) for _ in range(50)))

        assert proxy.exchanges == before + 1


async def test_what_is_asked_while_another_waits_is_sent_next(valkey_url: str) -> None:
    async with Proxy(valkey_url) as proxy, connect(proxy.url, call_timeout=TIMEOUT) as proxied:
        pipelines = Pipelines(proxied)
        proxy.hold_at = b"first"
        first = asyncio.create_task(ask(pipelines, ("get", "first")))
        await proxy.held.wait()
        second = asyncio.create_task(ask(pipelines, ("get", "second")))
        await asyncio.sleep(0)
        proxy.may_pass.set()

        assert (await first, await second) == ([None], [None])


async def test_a_command_that_is_refused_is_only_that_jobs_loss(valkey: Valkey) -> None:
    pipelines = Pipelines(valkey)
    await valkey.set("text", "no number")

    refused = asyncio.create_task(ask(pipelines, ("incr", "text")))
    answered = asyncio.create_task(ask(pipelines, ("incr", "number")))
    await asyncio.wait([refused, answered])

    assert isinstance(refused.exception(), ResponseError)
    assert answered.result() == [1]


async def test_a_job_that_is_cancelled_leaves_the_others_alone(valkey: Valkey) -> None:
    pipelines = Pipelines(valkey)
    cancelled = asyncio.create_task(ask(pipelines, ("get", "key")))
    other = asyncio.create_task(ask(pipelines, ("get", "key")))
    await asyncio.sleep(0)

    cancelled.cancel()

    assert await other == [None]


async def test_all_who_wait_hear_that_valkey_is_gone(valkey_url: str) -> None:
    async with Proxy(valkey_url) as proxy, connect(proxy.url, call_timeout=TIMEOUT) as proxied:
        pipelines = Pipelines(proxied)
        proxy.hold_at = b"first"
        first = asyncio.create_task(ask(pipelines, ("get", "first")))
        await proxy.held.wait()
        second = asyncio.create_task(ask(pipelines, ("get", "second")))
        await asyncio.sleep(0)
        await proxy.cut()
        proxy.may_pass.set()

        heard = await asyncio.gather(first, second, return_exceptions=True)

    assert [isinstance(error, RedisError) for error in heard] == [True, True]


async def test_what_cannot_even_be_sent_is_told(valkey: Valkey) -> None:
    with pytest.raises(AttributeError, match="no_such_command"):
        await ask(Pipelines(valkey), ("no_such_command",))
