"""A primary and a replica of Valkey, and three Sentinels that know them by the name `cache`."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app_runtime.testing.binaries import valkey_program
from app_runtime.testing.servers import ValkeyServer

SERVICE = "cache"
PASSWORD = "of-the-servers"  # of servers that end with the test
SENTINEL_PASSWORD = "of-the-sentinels"  # as above
QUORUM = 2
PATIENCE = 60.0


class Member(ValkeyServer):
    """A server that may be the primary or a replica."""

    secret = PASSWORD

    def _new_password(self) -> str:
        (self.folder / "password").write_text(self.secret)
        return self.secret


class SentinelServer(Member):
    """A Sentinel; it watches nothing until it is told to."""

    name = "Sentinel"
    secret = SENTINEL_PASSWORD

    def _command(self) -> list[str]:
        config = self.folder / "sentinel.conf"
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", f"requirepass {self.password}"]
        config.write_text("\n".join(lines))
        return [str(valkey_program()), str(config), "--sentinel"]


@dataclass(frozen=True, slots=True)
class Watched:
    """The servers, the first of which is the primary at the start."""

    servers: tuple[Member, Member]
    sentinels: Sequence[SentinelServer]

    @property
    def url(self) -> str:
        """For `APP_REDIS__URL`."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"sentinel://:{PASSWORD}@{hosts}/{SERVICE}"

    async def moved_from(self, server: Member) -> None:
        """Wait until all Sentinels that answer have made another server the primary."""
        async with asyncio.timeout(PATIENCE):
            while server.port in await self._primaries():  # noqa: ASYNC110  # it happens in another process
                await asyncio.sleep(0.1)

    async def _primaries(self) -> set[int]:
        found = set()
        for sentinel in self.sentinels:
            try:
                _, port = await ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            except (RedisError, OSError):
                continue
            found.add(int(port))
        assert found, "no Sentinel answers"
        return found


@contextmanager
def watched_servers() -> Iterator[Watched]:
    """Start all five, and wait until the Sentinels know each other and the replica."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(Member.temporary()) for _ in range(2))
        sentinels = [stack.enter_context(SentinelServer.temporary()) for _ in range(3)]
        watched = Watched((first, second), sentinels)
        asyncio.run(_introduce(watched))
        yield watched


async def ask(server: Member, *command: str | int) -> Any:  # Any: redis-py has no types for it
    """Send a command, and return the reply."""
    async with Redis.from_url(server.url, socket_timeout=2, decode_responses=True) as client:
        return await client.execute_command(*command)


async def watch(
    sentinel: SentinelServer, primary: ValkeyServer, *, password: str = PASSWORD, down_after: int = 1_000
) -> None:
    """Let a Sentinel watch this server, which is down when it is silent for these milliseconds."""
    await ask(sentinel, "SENTINEL", "MONITOR", SERVICE, "127.0.0.1", primary.port, QUORUM)
    for option in (("auth-pass", password), ("down-after-milliseconds", down_after), ("failover-timeout", 5_000)):
        await ask(sentinel, "SENTINEL", "SET", SERVICE, *option)


async def _introduce(watched: Watched) -> None:
    primary, replica = watched.servers
    for server in watched.servers:
        await ask(server, "CONFIG", "SET", "masterauth", PASSWORD)
    await ask(replica, "REPLICAOF", "127.0.0.1", primary.port)
    for sentinel in watched.sentinels:
        await watch(sentinel, primary)
    async with asyncio.timeout(PATIENCE):
        while not all([await _knows_all(sentinel) for sentinel in watched.sentinels]):  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.2)


async def _knows_all(sentinel: SentinelServer) -> bool:
    async with Redis.from_url(sentinel.url) as client:
        primary, replicas = await client.sentinel_master(SERVICE), await client.sentinel_slaves(SERVICE)
    is_replicated = len(replicas) == 1 and not replicas[0]["is_sdown"]
    return primary["num-other-sentinels"] == QUORUM and is_replicated
