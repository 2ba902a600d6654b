"""The servers and worker processes of the jobs' bench, and the CPU time that they use."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

import asyncpg
from redis import Redis

from app_auth.testing import new_key
from app_db.settings import DatabaseSettings
from app_db.testing import databases
from app_runtime.testing.processes import spawn
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.load import CLOCK_TICKS

ROOT = Path(__file__).resolve().parent.parent
NOW = timedelta(0)
PATIENCE = 900.0
"""Seconds after which the bench gives up waiting for jobs to end."""

CREATE_EFFECTS = "CREATE TABLE bench_effects (id uuid PRIMARY KEY, job_id uuid NOT NULL, number integer NOT NULL)"
_SEED = """
    INSERT INTO jobs (id, kind, payload, payload_version, state, run_at, claim_at)
    SELECT uuidv7(), $1, jsonb_build_object('number', number), 1, $2, now() + $3::interval, now() + $3::interval
    FROM generate_series(1, $4) AS number
"""


def say(what: str) -> None:
    """Show progress on stderr; stdout is for the tables."""
    print(f"… {what}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Cpu:
    """CPU seconds, user and system, by the processes that used them."""

    workers: float
    postgres: float
    valkey: float

    def since(self, before: Self) -> Self:
        """Return the CPU seconds used since an earlier measurement."""
        return type(self)(self.workers - before.workers, self.postgres - before.postgres, self.valkey - before.valkey)


def cpu_of_family(pid: int) -> float:
    """Return the CPU seconds of a process and its children, also ended ones: each session of Postgres is a child."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = stat.read_text().partition(" (")
        except (FileNotFoundError, ProcessLookupError):  # ended since
            continue
        fields = rest.rpartition(")")[2].split()
        if int(number) == pid:
            total += sum(int(ticks) for ticks in fields[11:15])
        elif int(fields[1]) == pid:
            total += sum(int(ticks) for ticks in fields[11:13])
    return total / CLOCK_TICKS


@dataclass(frozen=True)
class Place:
    """The two servers, an empty ledger, and a connection to look at it."""

    postgres: PostgresServer
    valkey: ValkeyServer
    url: str
    connection: "asyncpg.Connection[asyncpg.Record]"
    redis: Redis

    @classmethod
    async def prepare(cls, postgres: PostgresServer, valkey: ValkeyServer) -> Self:
        """Migrate a database of the bench's own."""
        url = await databases.recreate(postgres.url("postgres"), "app_bench_test")
        await databases.migrate(url, root=ROOT)
        settings = DatabaseSettings.model_validate({"url": url})
        connection = await asyncpg.connect(settings.direct_dsn)
        await connection.execute(CREATE_EFFECTS)
        return cls(postgres, valkey, url, connection, Redis.from_url(valkey.url))

    @property
    def settings(self) -> DatabaseSettings:
        """The settings with which an API process would connect."""
        return DatabaseSettings.model_validate({"url": self.url})

    async def empty(self) -> None:
        """Start over: no jobs, no deliveries, no statistics."""
        self.redis.flushall()
        await self.connection.execute("TRUNCATE jobs, bench_effects CASCADE")
        await self.connection.execute("SELECT pg_stat_reset()")

    async def seed(self, kind: str, count: int, *, due_in: timedelta = NOW) -> None:
        """Put jobs into the ledger, in this connection's transaction if there is one."""
        state = "scheduled" if due_in > NOW else "available"
        await self.connection.execute(_SEED, kind, state, due_in, count, timeout=PATIENCE)

    async def notify(self) -> None:
        """Tell the relays, as a commit through the application's engine would."""
        await self.connection.execute("NOTIFY jobs")

    async def is_drained(self) -> bool:
        """Whether every job that is due has ended."""
        return not await self.connection.fetchval("SELECT EXISTS (SELECT FROM jobs WHERE claim_at < now() + '1 hour')")

    def cpu(self, workers: list["subprocess.Popen[bytes]"]) -> Cpu:
        """Return the CPU seconds that workers and servers have used so far."""
        used = sum(cpu_of_family(worker.pid) for worker in workers)
        return Cpu(used, cpu_of_family(self.postgres.pid), cpu_of_family(self.valkey.pid))

    @contextmanager
    def processes(
        self, module: str, *arguments: str, count: int = 1, environment: Mapping[str, str]
    ) -> Iterator[list["subprocess.Popen[bytes]"]]:
        """Run worker processes, stop them at the end, and print their log if one has ended early."""
        key = new_key()
        ring = json.dumps([{"kid": key.kid, "secret": key.secret.get_secret_value()}])
        ours = {"APP_ENV": "test", "APP_AUTH__TOKEN_KEYS": ring}
        variables = {**ours, "APP_DATABASE__URL": self.url, "APP_REDIS__URL": self.valkey.url, **environment}
        with (self.valkey.folder / "workers.log").open("ab") as log:
            started = [
                spawn(
                    [sys.executable, "-m", module, *arguments],
                    env={**os.environ, **variables},
                    cwd=ROOT,
                    output=log,
                )
                for _ in range(count)
            ]
            try:
                yield started
            finally:
                if any(worker.poll() is not None for worker in started):
                    print(f"{module} ended early:\n{Path(log.name).read_text()[-4000:]}", file=sys.stderr)
                for worker in started:
                    worker.send_signal(signal.SIGTERM)
                for worker in started:
                    worker.wait(30)


def quantile(values: list[float], share: float) -> float:
    """Return the value that `share` of all values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
