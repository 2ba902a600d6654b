"""Jobs per second, and the cost of each: plain arq, and ours in both modes with one worker process and with two."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from arq import ArqRedis
from arq.constants import default_queue_name

from bench.jobs_arq import push
from bench.jobs_place import PATIENCE, Cpu, Place, say

WARM_UP = 200
WARM_UP_SECONDS = 60.0
DEFAULTS_JOBS = 2_000
"""Plain arq with its defaults needs five seconds for each thousand."""
ARQ = {"plain arq, defaults": ("arq", "bench.jobs_arq.Defaults"), "plain arq, tuned": ("bench.jobs_arq",)}
SPAN = """
    SELECT max(finished_at) - min(started_at), count(*) FILTER (WHERE state = 'completed')
    FROM jobs WHERE created_at > $1 AND kind = $2
"""


@dataclass(frozen=True)
class Rate:
    """The figures of one run."""

    name: str
    jobs: int
    seconds: float
    cpu: Cpu
    wal_bytes: float = 0
    hot: float = 0
    """The share of the updates of `jobs` that touched no index."""

    @property
    def per_second(self) -> float:
        """From the first start to the last finish."""
        return self.jobs / self.seconds

    def line(self) -> str:
        """Return its line of the table."""
        cpu = [used / self.jobs * 1e6 for used in (self.cpu.workers, self.cpu.postgres, self.cpu.valkey)]
        return (
            f"{self.name:36} {self.per_second:8.0f} {cpu[0]:9.0f} {cpu[1]:9.0f} {cpu[2]:9.0f} "
            f"{self.wal_bytes / self.jobs:9.0f} {self.hot:7.0%}"
        )


HEADER = (
    f"{'':36} {'jobs/s':>8} {'worker':>9} {'Postgres':>9} {'Valkey':>9} {'WAL':>9} {'HOT':>7}\n"
    f"{'':36} {'':8} {'CPU µs':>9} {'CPU µs':>9} {'CPU µs':>9} {'bytes':>9} {'share':>7}"
)


@dataclass(frozen=True)
class Starts:
    """The pipe through which jobs tell when they were started."""

    path: Path
    reader: asyncio.StreamReader

    @property
    def environment(self) -> dict[str, str]:
        """The variable for the processes that write to the pipe."""
        return {"BENCH_STARTS": str(self.path)}

    async def next(self) -> int:
        """Wait for the next start; return its time in nanoseconds."""
        return int(await asyncio.wait_for(self.reader.readline(), 30))


@asynccontextmanager
async def starts(place: Place) -> AsyncIterator[Starts]:
    """Open the pipe during the block."""
    path = place.valkey.folder / "starts"
    os.mkfifo(path)
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0)  # we can write, so it never ends
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        yield Starts(path, reader)
    finally:
        transport.close()
        path.unlink()


async def plain_arq(place: Place, name: str, jobs: int) -> Rate:
    """Let plain arq empty a queue of jobs that do nothing."""
    say(f"{name}: {jobs} jobs")
    await place.empty()
    module, *arguments = ARQ[name]
    async with starts(place) as pipe, ArqRedis.from_url(place.valkey.url) as redis:
        with place.processes(module, *arguments, environment=pipe.environment) as workers:
            await push(redis, WARM_UP, now_ms=time.time_ns() // 1_000_000)
            await pipe.next()
            await _emptied(redis)
            before = place.cpu(workers)
            await push(redis, jobs, now_ms=time.time_ns() // 1_000_000)
            started = await pipe.next()
            await _emptied(redis)
            return Rate(name, jobs, (time.time_ns() - started) / 1e9, place.cpu(workers).since(before))


async def _emptied(redis: ArqRedis) -> None:
    async with asyncio.timeout(PATIENCE):
        while await redis.zcard(default_queue_name):  # noqa: ASYNC110  # nobody tells us
            await asyncio.sleep(0.02)


async def ours(place: Place, name: str, kind: str, *, jobs: int, count: int, environment: dict[str, str]) -> Rate:
    """Let our worker processes empty a backlog of one kind; check that each job ran exactly once."""
    say(f"{name}: {jobs} jobs")
    await place.empty()
    connection = place.connection
    with place.processes("bench.jobs_worker", count=count, environment=environment) as workers:
        await warm_up(place, kind, count)
        warm = await connection.fetchval("SELECT clock_timestamp()")
        async with connection.transaction():
            await place.seed(kind, jobs)
            wal = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
            before = place.cpu(workers)
        await place.notify()
        await drained(place)
        used = place.cpu(workers).since(before)
        written = await connection.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", wal)
    span, completed = await connection.fetchrow(SPAN, warm, kind) or (timedelta(0), 0)
    effects = await connection.fetchval("SELECT count(*) - count(DISTINCT job_id) FROM bench_effects")
    if completed != jobs or effects:
        raise SystemExit(f"{name}: {completed} of {jobs} jobs completed, {effects} effects too many")
    return Rate(name, jobs, span.total_seconds(), used, float(written), await _hot(place))


async def _hot(place: Place) -> float:
    query = "SELECT n_tup_hot_upd::float / greatest(n_tup_upd, 1) FROM pg_stat_user_tables WHERE relname = 'jobs'"
    return float(await place.connection.fetchval(query))


async def warm_up(place: Place, kind: str, count: int) -> None:
    """Give out jobs until each of `count` worker processes has run some."""
    seen = "SELECT count(DISTINCT worker_id) FROM jobs WHERE finished_at IS NOT NULL"
    async with asyncio.timeout(WARM_UP_SECONDS):
        while await place.connection.fetchval(seen) < count:
            await place.seed(kind, WARM_UP)
            await place.notify()
            await drained(place)


async def drained(place: Place) -> None:
    """Wait until every job that is due has ended."""
    async with asyncio.timeout(PATIENCE):
        while not await place.is_drained():  # noqa: ASYNC110  # nobody tells us
            await asyncio.sleep(0.1)


async def rates(place: Place, *, jobs: int, environment: dict[str, str]) -> list[Rate]:
    """Run all variants, and print the table as it grows."""
    print(HEADER)
    found = []
    for name in ARQ:
        found.append(await plain_arq(place, name, min(jobs, DEFAULTS_JOBS) if "defaults" in name else jobs))
        print(found[-1].line(), flush=True)
    for mode, kind in {"tx, one INSERT": "bench.effect", "lease, no database work": "bench.nothing"}.items():
        for count in (1, 2):
            name = f"ours, {mode}, {count} worker{'s' * (count > 1)}"
            found.append(await ours(place, name, kind, jobs=jobs, count=count, environment=environment))
            print(found[-1].line(), flush=True)
    return found
