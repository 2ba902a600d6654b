"""A Valkey that was demoted keeps its connections and takes no writes (Valkey, "Replication": READONLY)."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ReadOnlyError

from app_auth.client import Client
from app_auth.limits import ThrottleSettings
from app_auth.throttle import open_throttle
from app_auth.valkey import BlockingLeavingPool, ClusterMode, LeavingPool, once_more, require_no_cluster
from app_runtime.configuration import Misconfigured
from app_runtime.testing.servers import ValkeyServer
from app_runtime.valkey import ValkeySettings

NOWHERE = ("127.0.0.1", "1")


@pytest.fixture
def valkey_server() -> Iterator[ValkeyServer]:
    """A Valkey of this test alone, to be demoted."""
    with ValkeyServer.temporary() as server:
        yield server


@asynccontextmanager
async def operator_of(server: ValkeyServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url, client_name="operator") as client:
        yield client


async def replicate(operator: Any, *place: str) -> None:  # Any: it has no types for this
    await operator.execute_command("REPLICAOF", *place)


async def connections(operator: Redis) -> set[str]:
    """The ids of the connections of others."""
    return {each["id"] for each in await operator.client_list() if each["name"] != "operator"}


@pytest.mark.parametrize("pool_class", [LeavingPool, BlockingLeavingPool])
async def test_all_connections_to_a_demoted_valkey_are_left(
    valkey_server: ValkeyServer, pool_class: type[ConnectionPool]
) -> None:
    pool = pool_class.from_url(valkey_server.url, **once_more())
    async with operator_of(valkey_server) as operator, Redis.from_pool(pool) as client:
        held = [await pool.get_connection() for _ in range(3)]
        for connection in held:
            await pool.release(connection)
        old = await connections(operator)
        await replicate(operator, *NOWHERE)
        with pytest.raises(ReadOnlyError):
            await client.set("app:x", "1")
        await replicate(operator, "NO", "ONE")

        held += [await pool.get_connection() for _ in range(3)]
        new = await connections(operator)
        await client.set("app:x", "1")

    assert len(old) == 3
    assert not old & new


async def test_a_write_is_made_where_the_address_leads_now(valkey_server: ValkeyServer) -> None:
    """The write is repeated on a new connection, so that the caller does not notice a completed fail-over."""
    with ValkeyServer.temporary() as promoted:
        pool = LeavingPool.from_url(valkey_server.url, **once_more())
        async with operator_of(valkey_server) as operator, Redis.from_pool(pool) as client:
            await client.set("app:x", "1")
            await replicate(operator, *NOWHERE)
            available: list[Any] = list(pool._available_connections)  # Any: of which kind depends on the URL
            for connection in available:  # as a name, or a proxy, that leads elsewhere by now
                connection.port, connection.password = promoted.port, promoted.password

            await client.set("app:x", "2")

        async with operator_of(promoted) as other:
            assert await other.get("app:x") == b"2"


async def test_a_throttle_leaves_a_valkey_that_was_demoted(valkey_server: ValkeyServer) -> None:
    settings = ValkeySettings.model_validate({"url": valkey_server.url, "timeout": timedelta(seconds=5)})
    home = Client("192.0.2.1")
    async with (
        operator_of(valkey_server) as operator,
        open_throttle(ThrottleSettings(), secret=b"x" * 32, valkey=settings) as throttle,
    ):
        await throttle.refresh(home)
        old = await connections(operator)
        await replicate(operator, *NOWHERE)

        await throttle.refresh(home)

        assert throttle.shared is not None
        assert throttle.shared.outages == 1
        assert not old & await connections(operator)


class ClusterNode(ValkeyServer):
    more = ("cluster-enabled yes",)


async def test_a_server_in_cluster_mode_is_refused_by_name() -> None:
    """It would refuse each script of two keys (CROSSSLOT), and send clients elsewhere (MOVED)."""
    with ClusterNode.temporary() as server:
        settings = ValkeySettings.model_validate({"url": server.url})
        async with Redis.from_pool(LeavingPool.of(settings)) as client:
            with pytest.raises(ClusterMode, match="cluster mode"):
                await client.get("app:x")
        with pytest.raises(Misconfigured, match="APP_REDIS__URL: the server is in cluster mode"):
            require_no_cluster(settings)


def test_a_server_that_is_away_may_have_any_mode() -> None:
    require_no_cluster(ValkeySettings.model_validate({"url": "redis://127.0.0.1:1"}))


async def test_a_user_who_may_not_ask_for_the_mode_works_all_the_same(valkey_server: ValkeyServer) -> None:
    async with operator_of(valkey_server) as operator:
        await operator.acl_setuser("app", enabled=True, passwords="+secret", keys=["app:*"], commands=["+get"])
    url = valkey_server.url.replace(f":{valkey_server.password}@", "app:secret@")
    async with Redis.from_pool(LeavingPool.of(ValkeySettings.model_validate({"url": url}))) as client:
        assert await client.get("app:x") is None


@pytest.mark.parametrize("decode_responses", [True, False])
async def test_replies_may_be_text(valkey_server: ValkeyServer, *, decode_responses: bool) -> None:
    settings = ValkeySettings.model_validate({"url": valkey_server.url})
    async with Redis.from_pool(LeavingPool.of(settings, decode_responses=decode_responses)) as client:
        await client.set("app:x", "1")

        assert await client.get("app:x") == ("1" if decode_responses else b"1")
