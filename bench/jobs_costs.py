"""The cost of single steps: from enqueue to start, enqueueing, claiming among a million rows, and idling."""

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from itertools import batched
from typing import Any
from uuid import UUID

from arq import ArqRedis
from sqlalchemy import event

from app_db import Database, open_database
from app_db.jobs import claims
from app_db.jobs.outbox import enqueue, enqueue_many
from bench.jobs_arq import push
from bench.jobs_place import Cpu, Place, quantile, say
from bench.jobs_rates import ARQ, Starts, starts, warm_up
from bench.jobs_worker import Effect, Start
from bench.load import memory_mb

LEASE = timedelta(seconds=15)
CLAIM = 100
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Times:
    """Some durations."""

    milliseconds: list[float]

    @property
    def p50(self) -> float:
        """The median."""
        return quantile(self.milliseconds, 0.5)

    @property
    def p99(self) -> float:
        """The duration that one in a hundred exceeds."""
        return quantile(self.milliseconds, 0.99)

    def __str__(self) -> str:
        return f"p50 {self.p50:.2f} ms, p99 {self.p99:.2f} ms, most {max(self.milliseconds):.2f} ms"


async def latency(place: Place, *, samples: int, environment: dict[str, str]) -> tuple[Times, Times]:
    """Time one job after the other, from before the INSERT to the handler's first line. First ours, then arq's."""
    say(f"enqueue to start, {samples} times ours")
    await place.empty()
    async with starts(place) as pipe, open_database(place.settings, name="bench") as database:
        with place.processes("bench.jobs_worker", environment=environment | pipe.environment):
            await warm_up(place, "bench.effect", 1)
            ours = Times([await _one_of_ours(database, pipe) for _ in range(samples)])
    print(f"ours:                {ours}")
    say(f"enqueue to start, {samples} times plain arq")
    await place.empty()
    module, *arguments = ARQ["plain arq, defaults"]
    async with starts(place) as pipe, ArqRedis.from_url(place.valkey.url) as redis:
        with place.processes(module, *arguments, environment=pipe.environment):
            await push(redis, 0, now_ms=time.time_ns() // 1_000_000)
            await pipe.next()
            theirs = Times([await _one_of_theirs(redis, pipe) for _ in range(samples)])
    print(f"plain arq, defaults: {theirs}", flush=True)
    return ours, theirs


async def _one_of_ours(database: Database, pipe: Starts) -> float:
    await asyncio.sleep(random.uniform(0.01, 0.06))
    before = time.time_ns()
    async with database.sessions.begin() as session:
        await enqueue(session, Start())
    return (await pipe.next() - before) / 1e6


async def _one_of_theirs(redis: ArqRedis, pipe: Starts) -> float:
    await asyncio.sleep(random.uniform(0, 0.5))  # its poll
    before = time.time_ns()
    await redis.enqueue_job("start")
    return (await pipe.next() - before) / 1e6


@dataclass(frozen=True)
class Enqueued:
    """The cost of enqueueing for the caller."""

    per_second: float
    per_second_of_8: float
    statements: float
    notifies_inside: int
    notifications: float
    """For each job."""
    valkey_commands: int
    many_per_second: float


async def enqueueing(place: Place, *, jobs: int, rows: int) -> Enqueued:
    """Enqueue each job in its own transaction, from one task and from eight, then `rows` at once."""
    say(f"enqueue, {jobs} transactions of one task and of eight")
    await place.empty()
    seen: list[str] = []
    heard: list[str] = []
    await place.connection.add_listener("jobs", lambda *_: heard.append("jobs"))
    async with open_database(place.settings, name="bench") as database:
        engine = database.engine.sync_engine
        await _enqueue_each(database, 50)
        commands = _valkey_commands(place)
        one = await _enqueue_each(database, jobs)
        commands = _valkey_commands(place) - commands - 1  # the INFO itself
        notifications = len(heard) / jobs
        before = time.perf_counter()
        await asyncio.gather(*(_enqueue_each(database, jobs // 8) for _ in range(8)))
        eight = jobs // 8 * 8 / (time.perf_counter() - before)
        event.listen(engine, "before_cursor_execute", lambda *about: seen.append(about[2]))
        await _enqueue_each(database, 100)
        statements = len(seen) / 100
        inside = sum("notify" in statement.lower() for statement in seen)
        say(f"enqueue_many, {rows} rows")
        many = await _enqueue_at_once(database, rows)
    await place.connection.reset()
    found = Enqueued(one, eight, statements, inside, notifications, commands, many)
    print(
        f"enqueue, a transaction each: {one:.0f}/s from one task, {eight:.0f}/s from eight; "
        f"{found.statements:g} statement, {inside} NOTIFY inside, {notifications:.2f} after it, "
        f"{commands} commands to Valkey"
    )
    return found


def _valkey_commands(place: Place) -> int:
    found: Any = place.redis.info("stats")  # Any: untyped answers
    return int(found["total_commands_processed"])


async def _enqueue_each(database: Database, jobs: int) -> float:
    before = time.perf_counter()
    for number in range(jobs):
        async with database.sessions.begin() as session:
            await enqueue(session, Effect(number=number))
    return jobs / (time.perf_counter() - before)


async def _enqueue_at_once(database: Database, rows: int) -> float:
    payloads = [Effect(number=number) for number in range(rows)]
    before, cpu = time.perf_counter(), time.process_time()
    async with database.sessions.begin() as session:
        await enqueue_many(session, payloads)
    seconds, cpu = time.perf_counter() - before, time.process_time() - cpu
    print(
        f"enqueue_many: {rows / seconds:.0f} rows/s, {cpu / rows * 1e6:.1f} µs of the caller's CPU for each", flush=True
    )
    return rows / seconds


async def claiming(place: Place, *, scheduled: int, samples: int) -> Times:
    """Claim 100 due jobs again and again, beside `scheduled` jobs that are due tomorrow; show the plan once."""
    await place.empty()
    for part in batched(range(scheduled), 100_000, strict=False):
        say(f"claim: {part[0]} of {scheduled} scheduled rows")
        await place.seed("bench.effect", len(part), due_in=DAY)
    await place.connection.execute("VACUUM ANALYZE jobs", timeout=600)
    found: list[float] = []
    plan = ""
    settings = place.settings.model_copy(update={"command_timeout": None})
    async with open_database(settings, name="bench") as database:
        for _ in range(samples):
            await place.seed("bench.effect", CLAIM)
            plan = plan or await explained(database)
            before = time.perf_counter()
            async with database.autocommit_sessions() as session:
                claimed = await claims.claim(session, queue="default", max_jobs=CLAIM, lease=LEASE)
            found.append((time.perf_counter() - before) * 1e3)
            assert len(claimed.deliveries) == CLAIM, claimed
            await end(place, [delivery.id for delivery in claimed.deliveries])
    times = Times(found)
    print(f"claim of {CLAIM} beside {scheduled} scheduled rows, commit included: {times}\n{plan}", flush=True)
    return times


async def end(place: Place, ids: list[UUID]) -> None:
    """Complete claimed jobs, as a worker would."""
    await place.connection.execute(
        "UPDATE jobs SET state = 'completed', claim_at = NULL, finished_at = now() WHERE id = ANY($1)", ids
    )


async def explained(database: Database) -> str:
    """Return the plan of a claim that is rolled back: how much it reads, and how long Postgres itself takes."""
    seen: list[tuple[str, Any]] = []  # Any: whatever the driver takes
    engine = database.engine.sync_engine

    def see(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", see)
    async with database.sessions() as session:
        await claims.claim(session, queue="default", max_jobs=CLAIM, lease=LEASE)
    event.remove(engine, "before_cursor_execute", see)
    statement, parameters = seen[-1]
    async with database.engine.connect() as connection:
        rows = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", parameters)
        return "\n".join(f"    {row[0]}" for row in rows if _is_worth_a_line(row[0]))


def _is_worth_a_line(line: str) -> bool:
    return any(word in line for word in ("->", "Buffers", "Index Searches", "Time"))


async def idling(place: Place, *, seconds: float, environment: dict[str, str]) -> Cpu:
    """Let a worker wait; return the share of a core that everything used."""
    say(f"idle for {seconds:g} s")
    await place.empty()
    with place.processes("bench.jobs_worker", environment=environment) as workers:
        await warm_up(place, "bench.effect", 1)
        await asyncio.sleep(2)
        before = place.cpu(workers)
        await asyncio.sleep(seconds)
        used = place.cpu(workers).since(before)
        memory = memory_mb(workers[0].pid)
    share = Cpu(used.workers / seconds, used.postgres / seconds, used.valkey / seconds)
    print(
        f"idle: worker {share.workers:.1%} of a core, Postgres {share.postgres:.1%}, Valkey {share.valkey:.1%}; "
        f"a worker process has {memory:.0f} MB (PSS)",
        flush=True,
    )
    return share
