"""How many connections all processes of an application open together, and whether Postgres has as many."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app_db.hosts import Hosts
from app_db.outage import NoAnswer, naming_refusals
from app_db.settings import DatabaseSettings
from app_runtime.configuration import Misconfigured

OF_MIGRATOR = 5
"""The connection limit of the role that migrates."""
IN_A_ROLLOUT = 2
"""Processes more than there are at other times: one that starts, and one that ends and keeps its connections."""
NOTIFIES = LISTENS = READS_OF_A_WORKER = 1
CURE = "raise max_connections, or put PgBouncer in between and say --pooler transaction (docs/how-to/operations.md)"


def pool_of_worker(concurrency: int, queues: int) -> int:
    """Return the size of a worker's pool of writes: one per slot, one per relay, two for the rest.

    Heartbeat, schedule, retention and bulk share those two.
    """
    return (concurrency + 1) * queues + 2


@dataclass(frozen=True, slots=True)
class Fleet:
    """The processes of an application, and what each opens."""

    api_processes: int
    workers: int
    of_api: int
    of_worker: int
    pooled: int = 0
    """Connections of a pooler, for the processes behind it."""

    @property
    def of_all_apis(self) -> int:
        """How many connections the API opens during a rollout."""
        return (self.api_processes + IN_A_ROLLOUT) * self.of_api if self.api_processes else 0

    @property
    def of_all_workers(self) -> int:
        """How many connections workers open during a rollout."""
        return (self.workers + IN_A_ROLLOUT) * self.of_worker if self.workers else 0

    @property
    def needed(self) -> int:
        """How many connections all open during a rollout."""
        return self.of_all_apis + self.of_all_workers + self.pooled

    def __str__(self) -> str:
        """Return the sum."""
        parts = [
            f"({number} + {IN_A_ROLLOUT}) x {each} of {whose}"
            for number, each, whose in (
                (self.api_processes, self.of_api, "the API"),
                (self.workers, self.of_worker, "workers"),
            )
            if number
        ]
        pooled = [f"{self.pooled} of the pooler"] if self.pooled else []
        return f"{' + '.join([*parts, *pooled])} = {self.needed} connections"


def fleet_of(
    settings: DatabaseSettings, *, api_processes: int, workers: int, worker_pool: int, sessions_of_pooler: int = 0
) -> Fleet:
    """Return the fleet of so many processes with these settings; through a pooler only what goes past it is theirs.

    Example:
        fleet = fleet_of(settings, api_processes=6, workers=4, worker_pool=pool_of_worker(10, 1))
        print(fleet)  # (6 + 2) x 16 of the API + (4 + 2) x 16 of workers = 224 connections
    """
    if sessions_of_pooler:
        return Fleet(api_processes, workers, NOTIFIES, NOTIFIES + LISTENS, pooled=sessions_of_pooler)
    of_worker = worker_pool + READS_OF_A_WORKER + NOTIFIES + LISTENS
    return Fleet(api_processes, workers, connections_of_api(settings), of_worker)


def connections_of_api(settings: DatabaseSettings) -> int:
    """Return how many connections a process of the API opens at most."""
    return settings.pool_size + settings.read_pool_size + NOTIFIES


@dataclass(frozen=True, slots=True)
class Room:
    """What a server gives, and what a role may have of it."""

    for_roles: int
    """Connections for all roles that are no superuser, without those of the migrator."""
    role_limit: int
    """-1 is no limit."""

    def lines(self, settings: DatabaseSettings) -> Iterator[str]:
        """Yield what a check of one process's settings says.

        Raises:
            Misconfigured: the role may have fewer connections than one process opens.
        """
        each = connections_of_api(settings)
        limit = self.for_roles if self.role_limit < 0 else self.role_limit
        if limit < each and not settings.is_pooled:
            raise Misconfigured(f"APP_DATABASE__URL: its role may have {limit} connections, and a process opens {each}")
        if self.role_limit > self.for_roles:
            yield f"# The role may have {self.role_limit} connections, but Postgres has {self.for_roles}: {CURE}"
        if not settings.is_pooled:
            yield f"# {min(limit, self.for_roles) // each} API processes of {each} connections fit, without workers."


async def room_of(settings: DatabaseSettings) -> Room:
    """Ask the server of `direct_url` what it gives, and what the role may have.

    Raises:
        NoAnswer: when it cannot be asked.
    """
    hosts = Hosts(settings.direct_dsn, connect_timeout=settings.connect_timeout)
    with naming_refusals():
        connection: Any = await hosts.connect()  # Any: asyncpg has no types
        try:
            row = await connection.fetchrow(_ROOM)
        finally:
            await connection.close()
    return Room(for_roles=row["given"] - OF_MIGRATOR, role_limit=row["role_limit"])


def room_for(settings: DatabaseSettings) -> list[str]:
    """Return what a check says of the room for this process; nothing if the server cannot be asked.

    May be called where an event loop runs.

    Raises:
        Misconfigured: as `Room.lines`.
    """
    with ThreadPoolExecutor(max_workers=1) as executor, suppress(NoAnswer):
        room = executor.submit(asyncio.run, room_of(settings)).result()
        return list(room.lines(settings))  # guard: test_a_check_compares_a_process_with_the_limit_of_its_role
    return []


_ROOM = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - current_setting('reserved_connections')::int AS given,
           (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role_limit
"""


def require_room(fleet: Fleet, room: Room) -> None:
    """Refuse a fleet that opens more connections than Postgres has.

    Raises:
        Misconfigured: with the sum and the cure.
    """
    if fleet.needed > room.for_roles:
        raise Misconfigured(f"{fleet}, but Postgres has {room.for_roles}: {CURE}")
