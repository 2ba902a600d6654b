"""Several processes that count together in one Valkey, and what happens when it is slow, frozen or gone."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app_auth.client import Client
from app_auth.errors import InvalidCredentials, Throttled
from app_auth.limits import ThrottleSettings
from app_auth.throttle import SharedWindows, Throttle, open_throttle
from app_runtime.testing.servers import ValkeyServer
from app_runtime.valkey import ValkeySettings

ADA = "ada@example.test"
HOME, CAFE = Client("192.0.2.1"), Client("198.51.100.7")
PATIENCE = timedelta(seconds=30)  # for a busy machine; tests of silent servers have less


@pytest.fixture
def valkey_server() -> Iterator[ValkeyServer]:
    """A Valkey of this test alone, to be frozen or killed."""
    with ValkeyServer.temporary() as server:
        yield server


@pytest.fixture
def secret() -> bytes:
    """Return a secret that separates the buckets of this test from others in the same Valkey."""
    return secrets.token_bytes(32)


@asynccontextmanager
async def processes(url: str, secret: bytes, *, count: int = 2, **limits: str) -> AsyncIterator[list[Throttle]]:
    """Open the throttles of `count` processes."""
    settings, valkey = ThrottleSettings(**limits), ValkeySettings.model_validate({"url": url, "timeout": PATIENCE})
    async with AsyncExitStack() as stack:
        opened = [open_throttle(settings, secret=secret, valkey=valkey) for _ in range(count)]
        yield [await stack.enter_async_context(throttle) for throttle in opened]


@asynccontextmanager
async def impatient(
    url: str, secret: bytes, *, pause: timedelta = timedelta(hours=1), **limits: str
) -> AsyncIterator[Throttle]:
    """Open a throttle that waits at most 0.5 s for an answer."""
    async with Redis.from_url(url) as valkey:
        shared = SharedWindows(valkey, timeout=timedelta(seconds=0.5), pause=pause)
        yield Throttle(ThrottleSettings(**limits), secret=secret, shared=shared)


@contextmanager
def frozen(server: ValkeyServer) -> Iterator[None]:
    """Freeze the server during the block: connections stay open and get no answer."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def shared_of(throttle: Throttle) -> SharedWindows:
    assert throttle.shared is not None
    return throttle.shared


async def allowed(throttle: Throttle, client: Client = HOME) -> bool:
    try:
        await throttle.register(client)
    except Throttled:
        return False
    return True


async def fail(throttle: Throttle) -> None:
    with pytest.raises(InvalidCredentials):
        async with throttle.login(HOME, ADA):
            raise InvalidCredentials


async def test_two_processes_share_their_limits(valkey_url: str, secret: bytes) -> None:
    async with processes(valkey_url, secret, register_ip="3/h") as (one, other):
        answers = [await allowed(throttle) for throttle in (one, other, one, other, one)]

    assert answers == [True, True, True, False, False]


async def test_of_sixty_attempts_at_once_as_many_pass_as_the_limit_says(valkey_url: str, secret: bytes) -> None:
    async with processes(valkey_url, secret, count=4, register_ip="5/h") as throttles:
        answers = await asyncio.gather(*(allowed(throttles[number % 4]) for number in range(60)))

    assert sum(answers) == 5


async def test_what_another_process_counts_counts_for_the_day_too(valkey_url: str, secret: bytes) -> None:
    async with processes(valkey_url, secret, login_account_day="2/24h") as (one, other):
        await fail(one)
        await fail(other)

        with pytest.raises(Throttled):
            async with one.login(Client("203.0.113.9"), ADA):
                pass


async def test_a_success_is_given_back_for_all_processes(valkey_url: str, secret: bytes) -> None:
    async with processes(valkey_url, secret, login_account="1/h") as (one, other):
        async with one.login(HOME, ADA):
            pass

        await fail(other)


async def test_only_what_succeeded_is_given_back(valkey_url: str, secret: bytes) -> None:
    async with processes(valkey_url, secret, login_account="2/h") as (one, other):
        await fail(one)
        async with other.login(HOME, ADA):
            pass
        await fail(other)

        with pytest.raises(Throttled):
            async with one.login(HOME, ADA):
                pass


async def test_what_one_limit_refuses_the_others_do_not_count(valkey_url: str, secret: bytes) -> None:
    async with processes(valkey_url, secret, login_account="1/h", login_ip="2/h") as (one, other):
        await fail(one)
        for _ in range(3):
            with pytest.raises(Throttled):
                async with other.login(HOME, ADA):
                    pass

        async with other.login(HOME, "grace@example.test"):
            pass


async def test_the_window_of_all_processes_slides(valkey_url: str, secret: bytes) -> None:
    async with processes(valkey_url, secret, register_ip="1/1s") as (one, other):
        assert await allowed(one)

        while not await allowed(other):  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.05)


async def test_who_is_refused_by_all_processes_is_told_whole_seconds(valkey_url: str, secret: bytes) -> None:
    async with processes(valkey_url, secret, register_ip="1/5m") as (one, other):
        await one.register(HOME)

        with pytest.raises(Throttled) as refusal:
            await other.register(HOME)

    assert 1 <= refusal.value.retry_after <= 300


async def test_valkey_holds_no_addresses_and_nothing_for_ever(valkey_server: ValkeyServer, secret: bytes) -> None:
    async with processes(valkey_server.url, secret, count=1) as (throttle,):
        await fail(throttle)

    async with Redis.from_url(valkey_server.url, decode_responses=True) as valkey:
        keys = [key async for key in valkey.scan_iter("*")]
        lasting = [key for key in keys if await valkey.ttl(key) <= 0]
    assert sorted(key.rpartition(":")[0] for key in keys) == [
        "app:throttle:login_account",
        "app:throttle:login_account_day",
        "app:throttle:login_ip",
    ]
    assert not any("ada@" in key or "192.0.2.1" in key for key in keys)  # "ada" alone is in many a hex digest
    assert lasting == []


async def test_a_frozen_valkey_lets_requests_pass(valkey_server: ValkeyServer, secret: bytes) -> None:
    async with impatient(valkey_server.url, secret, register_ip="2/h") as throttle:
        with frozen(valkey_server):
            answers = [await allowed(throttle) for _ in range(3)]

    assert answers == [True, True, False]


async def test_a_frozen_valkey_is_not_asked_by_each_request(valkey_server: ValkeyServer, secret: bytes) -> None:
    async with impatient(valkey_server.url, secret, pause=timedelta(hours=1), register_ip="1/h") as throttle:
        with frozen(valkey_server):
            await throttle.register(HOME)

        await throttle.register(CAFE)

    async with processes(valkey_server.url, secret, count=1, register_ip="1/h") as (other,):
        assert await allowed(other, CAFE)


async def test_valkey_counts_again_when_it_is_back(valkey_server: ValkeyServer, secret: bytes) -> None:
    async with impatient(valkey_server.url, secret, pause=timedelta(0), register_ip="1/h") as throttle:
        with frozen(valkey_server):
            await throttle.register(HOME)

        await throttle.register(CAFE)

    async with processes(valkey_server.url, secret, count=1, register_ip="1/h") as (other,):
        assert not await allowed(other, CAFE)


async def test_an_outage_is_logged_once_and_so_is_its_end(valkey_server: ValkeyServer, secret: bytes) -> None:
    with capture_logs() as logs:
        async with impatient(valkey_server.url, secret, pause=timedelta(0)) as throttle:
            with frozen(valkey_server):
                await throttle.register(HOME)
                await throttle.register(HOME)
            await throttle.register(HOME)
            await throttle.register(HOME)

    assert [entry["event"] for entry in logs] == ["throttle_valkey_lost", "throttle_valkey_found"]
    assert shared_of(throttle).outages == 1


async def test_what_was_counted_before_valkey_went_away_counts_on(valkey_server: ValkeyServer, secret: bytes) -> None:
    async with processes(valkey_server.url, secret, count=1, register_ip="5/h") as (throttle,):
        before = [await allowed(throttle) for _ in range(3)]
        valkey_server.stop()

        after = [await allowed(throttle) for _ in range(3)]

    assert before + after == [True] * 5 + [False]


async def test_emptying_valkey_frees_nobody_from_this_process(valkey_server: ValkeyServer, secret: bytes) -> None:
    async with processes(valkey_server.url, secret, count=1, register_ip="1/h") as (throttle,):
        await throttle.register(HOME)
        async with Redis.from_url(valkey_server.url) as valkey:
            await valkey.flushall()

        assert not await allowed(throttle)


async def test_a_success_is_given_back_while_valkey_is_away(valkey_server: ValkeyServer, secret: bytes) -> None:
    async with impatient(valkey_server.url, secret, login_account="1/h") as throttle:
        with frozen(valkey_server):
            async with throttle.login(HOME, ADA):
                pass

            await fail(throttle)


async def test_a_success_ends_well_although_valkey_goes_away_meanwhile(
    valkey_server: ValkeyServer, secret: bytes
) -> None:
    async with processes(valkey_server.url, secret, count=1, login_account="1/h") as (throttle,):
        async with throttle.login(HOME, ADA):
            valkey_server.stop()

        await fail(throttle)


async def test_a_valkey_that_refuses_us_is_as_good_as_none(valkey_server: ValkeyServer, secret: bytes) -> None:
    url = valkey_server.url.replace(valkey_server.password, "another")
    async with processes(url, secret, count=1, register_ip="1/h") as (throttle,):
        answers = [await allowed(throttle) for _ in range(2)]

    assert answers == [True, False]


async def test_what_was_counted_by_a_clock_that_was_ahead_refuses_nobody(
    valkey_server: ValkeyServer, secret: bytes
) -> None:
    async with (
        processes(valkey_server.url, secret, count=2, register_ip="1/h") as (first, second),
        Redis.from_url(valkey_server.url) as valkey,
    ):
        await first.register(HOME)
        (key,) = [key async for key in valkey.scan_iter("app:throttle:register_ip:*")]
        in_a_year = int((await valkey.time())[0] + 365 * 86400) * 1000
        await valkey.lset(key, 0, str(in_a_year))

        await second.register(HOME)
