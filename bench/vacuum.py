"""`python -m bench.vacuum`: what the storage parameters of hot tables give, under one load with each of them.

Each variant gets a new server with accounts, sessions and jobs. Then, for `--seconds`: `--refreshes` sessions a second
are refreshed, a tenth as many accounts sign in, with an event of the audit each, `--jobs` jobs a second are run by a
worker, get an error each and are deleted after half a minute, as retention does. A claim is timed four times a second.
The figures are those of the end.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg

from app_db import open_database
from app_db.jobs import claims
from app_db.types import utcnow
from app_runtime.testing.servers import PostgresServer, ValkeyServer
from bench.big_tables_seed import seed
from bench.jobs_costs import CLAIM, LEASE, Times
from bench.jobs_place import Place, cpu_of_family, say
from bench.jobs_rates import warm_up

_NAMES = "autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay"
OFTEN = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0"
VARIANTS = {
    "as it is": [],
    "jobs by default": [f"ALTER TABLE jobs RESET ({_NAMES})"],
    "sessions, accounts often": [f"ALTER TABLE {table} SET ({OFTEN})" for table in ("user_sessions", "users")],
    "the same, fillfactor 90": [
        f"ALTER TABLE {table} SET ({OFTEN}, fillfactor = 90)" for table in ("user_sessions", "users")
    ],
}
MONTH = f"audit_events_{utcnow():%Y_%m}"
VARIANTS["errors, audit often"] = [
    f"ALTER TABLE job_errors SET ({OFTEN})",
    f"ALTER TABLE {MONTH} SET (autovacuum_vacuum_insert_scale_factor = 0.02)",
]
TABLES = ("jobs", "user_sessions", "users", "job_errors", MONTH)
_REFRESH = """
    UPDATE user_sessions SET refresh_counter = refresh_counter + 1, rotated_at = now(), last_used_at = now(),
        idle_expires_at = now() + interval '14 days' WHERE id = $1
"""
_SIGN_IN = """
    WITH account AS (UPDATE users SET signed_in_at = now() WHERE id = $1 RETURNING id)
    INSERT INTO audit_events (id, event, user_id, client_address)
    SELECT uuidv7(), 'signed_in', id, '192.0.2.1' FROM account
"""
_FAIL = """
    INSERT INTO job_errors (id, job_id, attempt, error, trace)
    SELECT uuidv7(), id, 1, 'TimeoutError: no answer', repeat('  File "handlers.py", line 1' || chr(10), 30) FROM jobs
    WHERE kind = 'bench.effect' AND finished_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM job_errors WHERE job_id = jobs.id)
"""
_PRUNE = "DELETE FROM jobs WHERE finished_at < now() - interval '30 s' AND kind = 'bench.effect'"
_FIGURES = """
    SELECT n_dead_tup AS dead, pg_table_size(relid) AS bytes, pg_indexes_size(relid) AS index_bytes,
        autovacuum_count AS vacuums, total_autovacuum_time AS vacuum_ms,
        n_tup_hot_upd::float / greatest(n_tup_upd, 1) AS hot
    FROM pg_stat_user_tables WHERE relname = $1
"""


@dataclass(frozen=True)
class Figures:
    """What is there after the load; times in milliseconds."""

    variant: str
    table: str
    dead: int
    most_dead: int
    bytes: int
    bytes_before: int
    index_bytes: int
    index_bytes_before: int
    vacuums: int
    vacuum_ms: float
    hot: float

    def line(self) -> str:
        """Return the line of the table."""
        sizes = (self.bytes_before, self.bytes, self.index_bytes_before, self.index_bytes)
        return (
            f"{self.variant:26} {self.table:20} {self.dead:8} {self.most_dead:8} "
            + " ".join(f"{size / 2**20:6.0f}" for size in sizes)
            + f" {self.vacuums:4} {self.vacuum_ms / 1000:7.1f} {self.hot:5.2f}"
        )


@dataclass(frozen=True)
class Load:
    """How much is done a second, and for how many seconds."""

    seconds: float
    refreshes: int
    jobs: int


async def repeat(url: str, statement: str, ids: list[UUID], per_second: int, end: float) -> int:
    """Run the statement for random ids; return for how many."""
    connection = await asyncpg.connect(url)
    done, began = 0, time.monotonic()
    while (now := time.monotonic()) < end:
        wanted = int((now - began) * per_second) - done
        await connection.executemany(statement, [(random.choice(ids),) for _ in range(wanted)])
        done += wanted
        await asyncio.sleep(0.05)
    await connection.close()
    return done


async def jobs_of(place: Place, per_second: int, end: float) -> None:
    """Enqueue jobs, and delete those that have ended."""
    turn = 0
    while time.monotonic() < end:
        await place.seed("bench.effect", per_second)
        await place.notify()
        await place.connection.execute(_FAIL, timeout=600)
        if (turn := turn + 1) % 10 == 0:
            await place.connection.execute(_PRUNE, timeout=600)
        await asyncio.sleep(1)


async def claims_of(place: Place, end: float) -> Times:
    """Time claims as a relay makes them, and roll them back."""
    taken: list[float] = []
    async with open_database(place.settings, name="bench") as database:
        while time.monotonic() < end:
            async with database.sessions() as session:
                _ = await session.connection()  # so that the time is that of the claim alone
                before = time.perf_counter()
                await claims.claim(session, queue="default", max_jobs=CLAIM, lease=LEASE)
                taken.append((time.perf_counter() - before) * 1e3)
            await asyncio.sleep(0.25)
    return Times(taken)


async def most_dead(url: str, end: float) -> dict[str, int]:
    """Return the most dead rows that each table had."""
    connection = await asyncpg.connect(url)
    most = dict.fromkeys(TABLES, 0)
    while time.monotonic() < end:
        for name in TABLES:
            most[name] = max(most[name], (await connection.fetchrow(_FIGURES, name) or {"dead": 0})["dead"])
        await asyncio.sleep(1)
    await connection.close()
    return most


@asynccontextmanager
async def prepared(statements: list[str], scale: float) -> AsyncIterator[Place]:
    """A server with rows, and the tables of this variant."""
    with PostgresServer.temporary() as postgres, ValkeyServer.temporary() as valkey:
        place = await Place.prepare(postgres, valkey)
        await seed(place.connection, scale=scale)
        for statement in statements:
            await place.connection.execute(statement)
        await place.connection.execute("DELETE FROM jobs WHERE claim_at < now() + interval '2 hours'", timeout=600)
        # The worker would delete them at the next tick of its cron, sooner in one run than in another.
        await place.connection.execute("DELETE FROM user_sessions WHERE idle_expires_at < now() + interval '1 hour'")
        for table in ("user_sessions", "users", "jobs"):
            await place.connection.execute(f"VACUUM (FULL, ANALYZE) {table}", timeout=600)
        await place.connection.execute("SELECT pg_stat_reset()")
        yield place
        await place.connection.close()
        place.redis.close()


async def run(variant: str, load: Load, scale: float) -> list[Figures]:
    """Return the figures of each table."""
    say(variant)
    async with prepared(VARIANTS[variant], scale) as place:
        with place.processes("bench.jobs_worker", environment={}):
            await warm_up(place, "bench.effect", 1)
            before = {name: await place.connection.fetchrow(_FIGURES, name) for name in TABLES}
            ids = {
                name: [row["id"] for row in await place.connection.fetch(f"SELECT id FROM {name}")]
                for name in ("user_sessions", "users")
            }
            url, end, cpu = (
                place.settings.direct_dsn,
                time.monotonic() + load.seconds,
                cpu_of_family(place.postgres.pid),
            )
            refreshed, signed_in, times, most, _ = await asyncio.gather(
                repeat(url, _REFRESH, ids["user_sessions"], load.refreshes, end),
                repeat(url, _SIGN_IN, ids["users"], load.refreshes // 10, end),
                claims_of(place, end),
                most_dead(url, end),
                jobs_of(place, load.jobs, end),
            )
            cpu = cpu_of_family(place.postgres.pid) - cpu
        say(f"{refreshed} refreshes, {signed_in} sign-ins, {cpu:.1f} s of CPU of Postgres, claim of {CLAIM}: {times}")
        await place.connection.execute("SELECT pg_stat_force_next_flush()")
        found = []
        for name in TABLES:
            after, begin = await place.connection.fetchrow(_FIGURES, name), before[name]
            assert after is not None
            assert begin is not None
            earlier = {"bytes_before": begin["bytes"], "index_bytes_before": begin["index_bytes"]}
            found.append(Figures(variant, name, most_dead=most[name], **earlier, **dict(after)))
        return found


async def main() -> None:
    """Run all variants, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=[*VARIANTS], help="; ".join(VARIANTS))
    parser.add_argument("--scale", type=float, default=0.3)
    parser.add_argument("--seconds", type=float, default=timedelta(minutes=3).total_seconds())
    parser.add_argument("--refreshes", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=150)
    parser.add_argument("--json", type=Path, help="a file for all figures")
    options = parser.parse_args()
    print(
        f"{'MB':47} {'dead':>8} {'at most':>8} {'table, then':>13} {'indexes, then':>13} vacuums, s    HOT", flush=True
    )
    rows: list[Figures] = []
    for variant in options.variants:
        rows += await run(variant, Load(options.seconds, options.refreshes, options.jobs), options.scale)
        print("\n".join(row.line() for row in rows[-len(TABLES) :]), flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    asyncio.run(main())
