"""Notifications through Valkey."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from structlog.testing import capture_logs

from app_runtime.testing.servers import ValkeyServer
from app_runtime.valkey import ValkeySettings
from app_worker.delivery_queue import Valkey, connect
from app_worker.notifications import NotificationListener

from .conftest import frozen, running, until

TIMEOUT = timedelta(seconds=10)


class Heard:
    """Counts its calls."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


async def test_a_message_calls_the_callback_of_its_channel(valkey: Valkey) -> None:
    one, other = Heard(), Heard()
    async with running(NotificationListener(valkey, {"one": one, "other": other}, call_timeout=TIMEOUT).run()):
        await until(lambda: one.times and other.times)

        await valkey.publish("one", "")

        await until(lambda: one.times == 2)
    assert other.times == 1


async def test_a_new_subscription_calls_back_for_messages_that_were_lost(valkey: Valkey) -> None:
    heard = Heard()
    async with running(NotificationListener(valkey, {"one": heard}, call_timeout=TIMEOUT).run()):
        await until(lambda: heard.times == 1)

        await valkey.client_kill_filter(_type="pubsub")

        await until(lambda: heard.times == 2)


async def test_silence_is_no_loss(valkey: Valkey) -> None:
    heard = Heard()
    with capture_logs() as logs:
        async with running(
            NotificationListener(valkey, {"one": heard}, call_timeout=timedelta(milliseconds=100)).run()
        ):
            await until(lambda: heard.times)
            await asyncio.sleep(0.5)  # several questions, and their answers
            await valkey.publish("one", "")
            await until(lambda: heard.times == 2)

    assert logs == []


async def test_a_frozen_valkey_is_noticed_and_heard_again_when_it_thaws(mortal_valkey: ValkeyServer) -> None:
    heard = Heard()
    timeout = timedelta(milliseconds=500)
    async with hearing(mortal_valkey, heard, timeout):
        await until(lambda: heard.times)

        with capture_logs() as logs, frozen(mortal_valkey):
            await until(lambda: logs)
        heard.times = 0

        await until(lambda: heard.times)
    assert logs[0]["event"] == "notifications_lost"


async def test_a_valkey_that_was_restarted_is_heard_again(mortal_valkey: ValkeyServer) -> None:
    heard = Heard()
    async with hearing(mortal_valkey, heard, TIMEOUT):
        await until(lambda: heard.times)

        with capture_logs() as logs:
            mortal_valkey.stop()
            await until(lambda: logs)
        heard.times = 0
        mortal_valkey.start()

        await until(lambda: heard.times)


@asynccontextmanager
async def hearing(server: ValkeyServer, heard: Heard, call_timeout: timedelta) -> AsyncIterator[None]:
    """Listen to the channel `one` during the block."""
    async with (
        connect(ValkeySettings.model_validate({"url": server.url, "timeout": call_timeout})) as valkey,
        running(NotificationListener(valkey, {"one": heard}, call_timeout=call_timeout).run()),
    ):
        yield
