"""What is done to a site, at random but for the seed."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from random import Random

from redis.asyncio import Redis

from tests.e2e.chaos.site import LEASE_SECONDS, Site

type Fault = Callable[[Site, Random], Awaitable[None]]

END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.3
"""


async def kill_worker(site: Site, chance: Random) -> None:
    """kill -9, and another one is started; it may be killed before it is ready."""
    number = chance.randrange(len(site.workers))
    site.workers[number].kill()
    site.workers[number] = site.start_worker()


async def kill_producer(site: Site, chance: Random) -> None:
    """kill -9 at any moment: before COMMIT, while it is under way, or before the notification is sent."""
    site.kill_producer()
    site.start_producer()


async def freeze_worker(site: Site, chance: Random) -> None:
    """SIGSTOP for longer than a lease: afterwards it is a zombie, which goes on where it was."""
    site.freeze(chance.choice(site.workers), seconds=1.5 * LEASE_SECONDS)


async def flush_valkey(site: Site, chance: Random) -> None:
    """All deliveries that nobody took are gone."""
    async with Redis.from_url(site.valkey.url) as client:
        await client.flushall()


async def restart_valkey(site: Site, chance: Random) -> None:
    """kill -9, a while without it, and an empty one at the same address."""
    os.kill(site.valkey.pid, signal.SIGKILL)
    await asyncio.sleep(chance.uniform(0, site.longest_outage))
    site.valkey.stop()
    site.valkey.start()


async def end_sessions(site: Site, chance: Random) -> None:
    """Some three in ten connections to Postgres break, in the middle of whatever they do."""
    await site.ask(END_SESSIONS)


async def restart_postgres(site: Site, chance: Random) -> None:
    """Fast, which ends all sessions, or immediate, which is a crash."""
    if chance.random() < 0.5:
        os.kill(site.postgres.pid, signal.SIGQUIT)
    site.postgres.stop()
    site.postgres.start()


WEIGHTS: Mapping[Fault, int] = {
    kill_worker: 4,
    freeze_worker: 3,
    kill_producer: 2,
    flush_valkey: 3,
    restart_valkey: 2,
    end_sessions: 3,
    restart_postgres: 1,
}
