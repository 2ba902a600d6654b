"""The primary that Sentinels name is followed, whatever happens to the old one and to the Sentinels."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app_auth.client import Client
from app_auth.limits import ThrottleSettings
from app_auth.primary import LIFE, Primary
from app_auth.throttle import PAUSE, open_throttle
from app_auth.valkey import LeavingPool
from app_runtime.valkey import ValkeySettings
from packages.auth.tests.sentinels import PATIENCE, SENTINEL_PASSWORD, SERVICE, Watched, ask, watch, watched_servers

pytestmark = [pytest.mark.timeout(180), pytest.mark.integration]

HOUR = 3_600_000


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Servers and Sentinels of this test alone."""
    with watched_servers() as watched:
        yield watched


def settings_of(watched: Watched, **different: object) -> ValkeySettings:
    given = {"url": watched.url, "sentinel_password": SENTINEL_PASSWORD, "timeout": timedelta(seconds=2)}
    return ValkeySettings.model_validate(given | different)


@asynccontextmanager
async def client_of(settings: ValkeySettings) -> AsyncIterator[Redis]:
    seconds = settings.timeout.total_seconds()
    async with Redis.from_pool(LeavingPool.of(settings, socket_timeout=seconds)) as client:
        yield client


@asynccontextmanager
async def primary_of(settings: ValkeySettings) -> AsyncIterator[Primary]:
    assert settings.sentinels is not None
    primary = Primary(settings, settings.sentinels, on_move=lambda: None)
    yield primary
    await primary.close()


async def write(client: Redis) -> int:
    """Write once, and return the port of the server that took it."""
    await client.set("app:x", "1")
    info = await client.info("server")
    return int(info["tcp_port"])


async def write_until_it_succeeds(client: Redis) -> int:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await write(client)
            except (RedisError, OSError):
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("loss", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_primary_that_is_lost_is_followed(watched: Watched, loss: signal.Signals) -> None:
    old, new = watched.servers
    async with client_of(settings_of(watched)) as client:
        before = await write(client)
        os.kill(old.pid, loss)
        await watched.moved_from(old)

        after = await write_until_it_succeeds(client)

    os.kill(old.pid, signal.SIGCONT)
    assert (before, after) == (old.port, new.port)


async def test_a_primary_is_left_that_takes_writes_still(watched: Watched) -> None:
    """A fail-over that is ordered leaves the old one writable for some ten seconds, and drops what it took."""
    old, new = watched.servers
    async with client_of(settings_of(watched)) as client:
        await write(client)
        await ask(watched.sentinels[0], "SENTINEL", "FAILOVER", SERVICE)
        await watched.moved_from(old)

        async with asyncio.timeout(PATIENCE):
            while await write(client) != new.port:  # noqa: ASYNC110  # the Sentinels are asked meanwhile
                await asyncio.sleep(0.05)

    role, *_ = await ask(old, "ROLE")
    assert role == "master", "else it could not have taken the write"


async def test_a_sentinel_that_is_cut_off_is_asked_last(watched: Watched) -> None:
    """One that was cut off from the others names what was the primary before."""
    primary, replica = watched.servers
    cut_off = watched.sentinels[0]
    await ask(cut_off, "SENTINEL", "REMOVE", SERVICE)
    await watch(cut_off, replica, down_after=HOUR)

    async with client_of(settings_of(watched)) as client:
        assert await write(client) == primary.port


async def test_sentinels_that_are_gone_change_nothing(watched: Watched) -> None:
    async with client_of(settings_of(watched)) as client:
        await write(client)
        for sentinel in watched.sentinels:
            sentinel.stop()
        await asyncio.sleep(LIFE.total_seconds())

        assert await write(client) == watched.servers[0].port


async def test_sentinels_that_are_frozen_hold_up_no_call(watched: Watched) -> None:
    async with client_of(settings_of(watched, timeout=timedelta(hours=1))) as client:
        await write(client)
        for sentinel in watched.sentinels:
            os.kill(sentinel.pid, signal.SIGSTOP)
        await asyncio.sleep(LIFE.total_seconds())

        async with asyncio.timeout(PATIENCE):
            written = await asyncio.gather(*(write(client) for _ in range(5)))

    for sentinel in watched.sentinels:
        os.kill(sentinel.pid, signal.SIGCONT)
    assert set(written) == {watched.servers[0].port}


async def test_one_sentinel_that_is_frozen_is_passed_over_in_time(watched: Watched) -> None:
    """The machine of a dead primary may have been that of a Sentinel."""
    os.kill(watched.sentinels[0].pid, signal.SIGSTOP)
    home = Client("192.0.2.1")
    settings = settings_of(watched, timeout=timedelta(seconds=1))
    async with open_throttle(ThrottleSettings(), secret=b"x" * 32, valkey=settings) as throttle:
        await throttle.refresh(home)

        assert throttle.shared is not None
        assert throttle.shared.outages == 0
    os.kill(watched.sentinels[0].pid, signal.SIGCONT)


async def test_a_throttle_counts_at_the_new_primary(watched: Watched) -> None:
    old, new = watched.servers
    limits = ThrottleSettings(refresh_ip="1/h")
    async with open_throttle(limits, secret=b"x" * 32, valkey=settings_of(watched)) as throttle:
        await throttle.refresh(Client("192.0.2.1"))
        os.kill(old.pid, signal.SIGKILL)
        await watched.moved_from(old)
        assert throttle.shared is not None
        async with asyncio.timeout(PATIENCE):
            count = 1
            while await ask(new, "DBSIZE") == 1:
                count += 1
                await throttle.refresh(Client(f"192.0.2.{count}"))
                await asyncio.sleep(PAUSE.total_seconds() / 4)


async def test_without_a_sentinel_nobody_knows_the_primary(watched: Watched) -> None:
    for sentinel in watched.sentinels:
        sentinel.stop()

    async with client_of(settings_of(watched)) as client:
        with pytest.raises(RedisError, match="No master found"):
            await write(client)


async def test_a_service_that_no_sentinel_knows_is_said_to_be_unknown(watched: Watched) -> None:
    url = watched.url.replace(f"/{SERVICE}", "/cash")

    async with client_of(settings_of(watched, url=url)) as client:
        with pytest.raises(RedisError, match=f"'cash': 127.0.0.1:{watched.sentinels[0].port}: knows no such service"):
            await write(client)


async def test_sentinels_have_a_password_of_their_own(watched: Watched) -> None:
    for different in ({"sentinel_password": "wrong"}, {"sentinel_user": "nobody"}):
        async with client_of(settings_of(watched, **different)) as client:
            with pytest.raises(RedisError, match="No master found"):
                await write(client)


async def test_a_sentinel_that_refuses_the_question_is_passed_over(watched: Watched) -> None:
    """Its rights may differ from those of the others, or something else may listen there."""
    await ask(watched.sentinels[0], "ACL", "SETUSER", "default", "-sentinel|masters")

    async with client_of(settings_of(watched)) as client:
        assert await write(client) == watched.servers[0].port


async def test_the_right_to_ask_suffices_at_a_sentinel(watched: Watched) -> None:
    for sentinel in watched.sentinels:
        await ask(sentinel, "ACL", "SETUSER", "app", "on", ">secret", "+sentinel|masters")

    async with client_of(settings_of(watched, sentinel_user="app", sentinel_password="secret")) as client:
        await write(client)

    assert [await ask(sentinel, "ACL", "LOG") for sentinel in watched.sentinels] == [[], [], []]


async def test_a_doubt_while_sentinels_are_asked_forgets_none_of_them(watched: Watched) -> None:
    first, second, third = watched.sentinels
    async with primary_of(settings_of(watched, timeout=timedelta(hours=1))) as primary:
        known = await primary.address()
        first.stop()
        os.kill(second.pid, signal.SIGSTOP)
        await asyncio.sleep(LIFE.total_seconds())
        await primary.address()
        await asyncio.sleep(0.5)  # until the second is asked, because the first is gone
        primary.doubt()
        os.kill(second.pid, signal.SIGCONT)
        await primary.address()
        second.stop()
        primary.doubt()

        assert await primary.address() == known, f"as {third.name} at {third.port} says"


async def test_no_connection_to_a_sentinel_outlives_its_pool(watched: Watched) -> None:
    pool = LeavingPool.of(settings_of(watched))
    async with Redis.from_pool(pool) as client:
        await write(client)
        during = await askers_of(watched)

    assert during == 1
    async with asyncio.timeout(5):
        while await askers_of(watched):  # noqa: ASYNC110  # a Sentinel notices a moment later
            await asyncio.sleep(0.05)
    assert pool.primary is not None, "it is still there, so nobody but the pool has closed them"


async def askers_of(watched: Watched) -> int:
    """Return how many connections asked the Sentinels last for the primaries."""
    lists = [str(await ask(sentinel, "CLIENT", "LIST")) for sentinel in watched.sentinels]
    return sum(each.count("cmd=sentinel|masters") for each in lists)


async def test_two_doubts_of_one_answer_are_one(watched: Watched) -> None:
    """Two connections meet the same replica. Counted twice, the second Sentinel, which is right, would not be asked."""
    primary_server, replica = watched.servers
    for cut_off in (watched.sentinels[0], watched.sentinels[2]):
        await ask(cut_off, "SENTINEL", "REMOVE", SERVICE)
        await watch(cut_off, replica, down_after=HOUR)
    async with primary_of(settings_of(watched)) as primary:
        assert await primary.address() == ("127.0.0.1", replica.port)

        primary.doubt()
        primary.doubt()

        assert await primary.address() == ("127.0.0.1", primary_server.port)


async def test_many_calls_ask_the_sentinels_once(watched: Watched) -> None:
    async with primary_of(settings_of(watched)) as primary:
        await primary.address()
        await asyncio.sleep(LIFE.total_seconds())
        before = await commands_of(watched)

        await asyncio.gather(*(primary.address() for _ in range(200)))
        await asyncio.sleep(0.5)

        assert await commands_of(watched) - before < 100


async def commands_of(watched: Watched) -> int:
    """Return how many commands the Sentinels have run, those that they send each other too."""
    stats = [await ask(sentinel, "INFO", "stats") for sentinel in watched.sentinels]
    return sum(int(each["total_commands_processed"]) for each in stats)
