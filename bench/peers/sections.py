"""What is measured of each system; every measurement has a database of its own, and one worker process."""

import asyncio
import os
import time
from argparse import Namespace
from collections.abc import Callable

from bench.jobs_place import quantile
from bench.peers.place import PATIENCE, Place, Worker, connect
from bench.peers.systems import System

WARM_UP = 200
type Figures = dict[str, float]


async def rates(place: Place, system: System, chosen: Namespace) -> Figures:
    """Jobs a second of a backlog that does nothing, and of one that inserts a row each."""
    return {
        **await _rate(place, system, "nothing", chosen.jobs),
        **await _rate(place, system, "effect", chosen.jobs),
    }


async def _rate(place: Place, system: System, kind: str, jobs: int) -> Figures:
    """From the begin of the first job until the system says that none is left."""
    url = await place.fresh(system)
    place.call(system, url, "seed", kind, str(jobs))
    connection = await connect(url)
    try:
        await connection.execute("ANALYZE")
        await connection.execute("CHECKPOINT")
        with place.worker(system, url, jobs=jobs) as worker:
            await _until(lambda: worker.first_began > 0, worker)
            before = place.cpu(worker)
            await _until(lambda: worker.ended >= jobs, worker)
            async with asyncio.timeout(PATIENCE):
                while await place.left(system, connection):  # noqa: ASYNC110  # nobody tells us
                    await asyncio.sleep(0.01)
            seconds = (time.time_ns() - worker.first_began) / 1e9
            used = place.cpu(worker).since(before)
        rows = await connection.fetchval("SELECT count(DISTINCT number) FROM bench_effects")
    finally:
        await connection.close()
    if kind == "effect" and rows != jobs:
        raise RuntimeError(f"{jobs} jobs have ended and left {rows} rows")
    per_job = {"worker": used.workers, "postgres": used.postgres, "valkey": used.valkey}
    figures = {f"{kind}_{name}_cpu_us": seconds_used / jobs * 1e6 for name, seconds_used in per_job.items()}
    return {f"{kind}_per_second": jobs / seconds, **figures}


async def starts(place: Place, system: System, chosen: Namespace) -> Figures:
    """Milliseconds from before the transaction that enqueues a job to its first line, while nothing else is due."""
    url = await place.fresh(system)
    place.files += 1
    pipe = place.valkey.folder / f"starts{place.files}"
    os.mkfifo(pipe)
    place.call(system, url, "seed", "nothing", str(WARM_UP))
    with place.worker(system, url, jobs=WARM_UP, BENCH_STARTS=str(pipe)) as worker:
        await _until(lambda: worker.ended >= WARM_UP, worker)
        await asyncio.sleep(1)  # until it has nothing left to write
        found = await asyncio.to_thread(place.call, system, url, "starts", str(chosen.samples), BENCH_STARTS=str(pipe))
    return {"start_p50_ms": quantile(found, 0.5), "start_p99_ms": quantile(found, 0.99)}


async def enqueue(place: Place, system: System, chosen: Namespace) -> Figures:
    """Jobs a second that one task enqueues, a transaction each; nobody runs them."""
    url = await place.fresh(system)
    return {"enqueue_per_second": place.call(system, url, "enqueue", str(chosen.jobs))[-1]}


async def kill(place: Place, system: System, chosen: Namespace) -> Figures:
    """Jobs without their row after one kill -9 amid the backlog, with the next worker at once.

    Lost are those that the system no longer knows of; those that it still has wait for something.
    """
    url = await place.fresh(system)
    place.call(system, url, "seed", "effect", str(chosen.jobs))
    with place.worker(system, url, jobs=chosen.jobs) as first:
        await _until(lambda: first.ended >= chosen.jobs * 2 // 5, first)
        first.kill()
    killed = time.monotonic()
    connection = await connect(url)
    try:
        with place.worker(system, url, jobs=chosen.jobs):
            left = await place.left(system, connection)
            while left and time.monotonic() - killed < chosen.patience:
                await asyncio.sleep(0.05)
                left = await place.left(system, connection)
            seconds = time.monotonic() - killed
        rows, twice = await connection.fetchrow(
            "SELECT count(DISTINCT number), count(*) - count(DISTINCT number) FROM bench_effects"
        ) or (0, 0)
    finally:
        await connection.close()
    missing = chosen.jobs - rows
    waiting = min(left, missing)
    figures = {"in_flight": first.in_flight(), "lost": missing - waiting, "waiting": waiting, "twice": twice}
    return {**figures, "open": left} if left else {**figures, "open": 0, "drained_seconds": seconds}


async def _until(condition: Callable[[], bool], worker: Worker) -> None:
    """Wait for what the marks of a worker tell."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            if worker.process.poll() is not None:
                raise TimeoutError
            await asyncio.sleep(0.002)


SECTIONS = {"rates": rates, "latency": starts, "enqueue": enqueue, "kill": kill}
