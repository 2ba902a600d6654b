"""Only Postgres's clock decides: workers whose clocks are wrong, that freeze, or that are away while a cron ticks."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from app_db import Database
from app_db.jobs.outbox import enqueue
from app_runtime.testing.processes import wait_until
from tests.docs.checkout import ROOT
from tests.e2e.chaos.figures import counted_ticks, show
from tests.e2e.clock_worker import Alarm, LatestSecond, PunctualSecond, Second
from tests.reads import CLOCKS

from .conftest import Environment
from .processes import PATIENCE, Process, eventually, until

pytestmark = CLOCKS

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
SECOND = timedelta(seconds=1)
LONGEST_DELAY = 1 + 1
"""Seconds from the time of a job, by Postgres's clock, to its start. 1 is promised where slots are free; 1 more is
for a busy machine. A worker that used its own clock would be off by two minutes."""
SLOW, RIGHT, FAST = "-120s", "+0s", "+120s"

needs_faketime = pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed (Debian: faketime)")

type StartWorkers = Callable[[Sequence[str]], list[Process]]


@pytest.fixture
def start_workers(worker_environment: Environment, tmp_path: Path) -> Iterator[StartWorkers]:
    """Start one worker for each clock, which is given as the difference to the right time."""
    workers: list[Process] = []
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

    def start(clocks: Sequence[str]) -> list[Process]:
        for clock in clocks:
            environment = {
                **worker_environment,
                "PYTHONPATH": python_path,
                "APP_WORKER__CONCURRENCY": "2",
                **skew(clock),
            }
            log = tmp_path / f"clock-worker-{len(workers)}.log"
            workers.append(Process("tests.e2e.clock_worker", ready="", env=environment, log=log))
        return workers[-len(clocks) :]

    yield start
    for worker in workers:
        worker.signal(signal.SIGCONT)
    stop(workers)


def skew(clock: str) -> Environment:
    """Variables that make the clock of a process wrong, but not the clock that measures durations."""
    if clock == RIGHT:
        return {}
    return {"LD_PRELOAD": str(FAKETIME), "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@needs_faketime
@pytest.mark.parametrize("first", [FAST, SLOW])
async def test_jobs_start_when_it_is_time_by_the_clock_of_postgres(
    start_workers: StartWorkers, database: Database, first: str
) -> None:
    leader = start_workers([first])
    await all_have_started(leader)  # so that it becomes the leader
    workers = [*leader, *start_workers([clock for clock in (SLOW, RIGHT, FAST) if clock != first])]
    await all_have_started(workers)

    await enqueue_alarms(database, count=60, within=2 * SECOND)

    await all_alarms_have_rung(database)
    earliest, latest, workers_seen = await alarm_figures(database)
    print(f"\nstarted after the time of the job: {earliest:.3f} to {latest:.3f} s")  # noqa: T201  # the figures
    assert earliest >= 0
    assert latest < LONGEST_DELAY
    assert workers_seen == 3


@needs_faketime
async def test_no_tick_fires_twice_or_is_missed_when_the_clocks_of_workers_differ(
    start_workers: StartWorkers, database: Database
) -> None:
    workers = start_workers([SLOW, RIGHT, FAST])
    await all_have_started(workers)

    for worker in workers[:2]:
        await ticks_go_on(database, 2)
        worker.stop()
    await ticks_go_on(database, 2)

    assert_each_second_once(await ticks(database, Second.kind))
    assert_no_second_twice(await ticks(database, LatestSecond.kind))
    assert await early_ticks(database) == 0
    await show_ticks(database)


async def test_each_tick_fires_once_while_workers_are_frozen(start_workers: StartWorkers, database: Database) -> None:
    workers = start_workers([RIGHT] * 3)
    await all_have_started(workers)

    for worker in workers:
        worker.signal(signal.SIGSTOP)
        await ticks_go_on(database, 2)
        worker.signal(signal.SIGCONT)
    await ticks_go_on(database, 2)

    assert_each_second_once(await ticks(database, Second.kind))
    assert_each_second_once(await ticks(database, PunctualSecond.kind))
    assert_no_second_twice(await ticks(database, LatestSecond.kind))
    await show_ticks(database)


async def test_ticks_that_passed_while_all_workers_were_restarted_fire_as_their_cron_says(
    start_workers: StartWorkers, database: Database
) -> None:
    workers = start_workers([RIGHT] * 3)
    await all_have_started(workers)
    await ticks_go_on(database, 2)

    stop(workers)
    stopped = await database_clock(database)
    await asyncio.sleep(2)
    restarted = await database_clock(database)
    await all_have_started(start_workers([RIGHT] * 3))
    await ticks_go_on(database, 2, LatestSecond.kind)

    latest_seconds = await ticks(database, LatestSecond.kind)
    assert_each_second_once(await ticks(database, Second.kind))
    assert_no_second_twice(latest_seconds)
    assert sum(stopped < tick <= restarted for tick in latest_seconds) <= 1
    await show_ticks(database)


def stop(workers: Sequence[Process]) -> None:
    """Stop all workers that run, at the same time."""
    for worker in workers:
        worker.signal(signal.SIGTERM)
    assert wait_until(lambda: not any(worker.is_running() for worker in workers), PATIENCE)


async def all_have_started(workers: Sequence[Process]) -> None:
    for worker in workers:
        await until(partial(worker.has_logged, "worker_started"), f"{worker.log} says that it has started")


async def enqueue_alarms(database: Database, *, count: int, within: timedelta) -> None:
    now = await database_clock(database)
    async with database.sessions.begin() as session:
        for number in range(count):
            await enqueue(session, Alarm(), run_at=now + within * number / count)


async def all_alarms_have_rung(database: Database) -> None:
    async def none_is_open() -> bool:
        query = text("SELECT NOT EXISTS (SELECT FROM jobs WHERE kind = :kind AND finished_at IS NULL)")
        async with database.read_sessions() as session:
            return (await session.scalars(query, {"kind": Alarm.kind})).one() is True

    await eventually(none_is_open, "all alarms have rung")


async def alarm_figures(database: Database) -> tuple[float, float, int]:
    """Return the least and the greatest delay of an alarm in seconds, and the number of workers that ran alarms."""
    after = "extract(epoch FROM started_at - run_at)"
    query = text(f"SELECT min({after}), max({after}), count(DISTINCT worker_id) FROM jobs WHERE kind = :kind")
    async with database.read_sessions() as session:
        earliest, latest, workers = (await session.execute(query, {"kind": Alarm.kind})).one()
    return float(earliest), float(latest), workers


async def ticks_go_on(database: Database, count: int, kind: str = Second.kind) -> None:
    """Wait until `count` more ticks have fired."""
    before = len(await ticks(database, kind))

    async def there_are_more() -> bool:
        return len(await ticks(database, kind)) >= before + count

    await eventually(there_are_more, f"{count} more ticks have fired")


async def ticks(database: Database, kind: str) -> list[datetime]:
    async with database.read_sessions() as session:
        query = text("SELECT run_at FROM jobs WHERE kind = :kind ORDER BY run_at")
        return list(await session.scalars(query, {"kind": kind}))


async def show_ticks(database: Database) -> None:
    """Print how many ticks since the first were lost, doubled or early."""
    show(f"{Second.kind}, three workers", await counted_ticks(database.settings.direct_dsn, Second.kind))


async def early_ticks(database: Database) -> int:
    """Count the ticks that fired before their time."""
    query = text("SELECT count(*) FROM jobs WHERE kind <> :alarm AND created_at < run_at")
    async with database.read_sessions() as session:
        count: int = (await session.scalars(query, {"alarm": Alarm.kind})).one()
    return count


async def database_clock(database: Database) -> datetime:
    async with database.read_sessions() as session:
        now: datetime = (await session.scalars(text("SELECT clock_timestamp()"))).one()
    return now


def assert_each_second_once(fired: Sequence[datetime]) -> None:
    assert fired == [fired[0] + number * SECOND for number in range(len(fired))]


def assert_no_second_twice(fired: Sequence[datetime]) -> None:
    assert fired == sorted(set(fired))
