"""Faults that a run injects into a site at random; a seed makes their choice repeatable."""

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
    """kill -9 a worker and start another; the next fault may kill it before it is ready."""
    number = chance.randrange(len(site.workers))
    site.workers[number].kill()
    site.workers[number] = site.start_worker()


async def kill_producer(site: Site, chance: Random) -> None:
    """kill -9 the producer at any moment: before or during COMMIT, or before the notification is sent."""
    site.kill_producer()
    site.start_producer()


async def freeze_worker(site: Site, chance: Random) -> None:
    """SIGSTOP a worker for longer than a lease: it resumes as a zombie, which goes on with jobs that it has lost."""
    site.freeze(chance.choice(site.workers), seconds=1.5 * LEASE_SECONDS)


async def flush_valkey(site: Site, chance: Random) -> None:
    """Lose all deliveries that no executor has taken."""
    async with Redis.from_url(site.valkey.url) as client:
        await client.flushall()


async def restart_valkey(site: Site, chance: Random) -> None:
    """kill -9 Valkey; after a while an empty one takes its address."""
    os.kill(site.valkey.pid, signal.SIGKILL)
    await asyncio.sleep(chance.uniform(0, site.longest_outage))
    site.valkey.stop()
    site.valkey.start()


async def end_sessions(site: Site, chance: Random) -> None:
    """End about three in ten sessions of Postgres, also in the middle of a statement."""
    await site.ask(END_SESSIONS)


async def restart_postgres(site: Site, chance: Random) -> None:
    """Shut Postgres down fast, which ends all sessions, or immediately, which is a crash; start it again."""
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
