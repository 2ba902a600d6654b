"""Limits of kinds in a worker: it declares them, its relay admits jobs, and tests that drain keep to them."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from app_db import Database
from app_db.jobs.limits import Limit
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.types import new_id
from app_worker import testing
from app_worker.context import JobContext
from app_worker.delivery_queue import DeliveryQueue
from app_worker.draining import drain
from app_worker.executor import Executor
from app_worker.limiting import declare, declare_limits
from app_worker.metrics import Metrics
from app_worker.registry import Handler, Mode, handles
from app_worker.relay import Relay

from .conftest import LEASE, Jobs, MakeRunner, eventually, running, until, working


class Call(JobPayload, limit=Limit(running=2, per="clinic")):
    """A call to a clinic that takes two at once."""

    kind = "test.call"
    clinic: str = "ann"


class Counted:
    """A handler that notes how many of its jobs run at once, per clinic, and how many have ended."""

    def __init__(self, mode: Mode) -> None:
        self.now: Counter[str] = Counter()
        self.most = 0
        self.ended = 0

        @handles(Call, mode=mode)
        async def call(job: JobContext, payload: Call) -> None:
            self.now[payload.clinic] += 1
            self.most = max(self.most, self.now[payload.clinic])
            await asyncio.sleep(0.01)
            self.now[payload.clinic] -= 1
            self.ended += 1

        self.handler: Handler = call


@pytest.mark.parametrize("mode", Mode)
async def test_a_worker_with_many_slots_runs_no_more_jobs_of_a_key_at_once_than_allowed(
    jobs: Jobs, make_runner: MakeRunner, delivery_queue: DeliveryQueue, mode: Mode
) -> None:
    counted = Counted(mode)
    runner = make_runner(counted.handler)
    await declare(runner)
    for number in range(24):
        await jobs.enqueue(Call(clinic=str(number % 2)))
    executor = Executor(delivery_queue, slots=10, timeout=timedelta(seconds=30), run=runner.run, leads=lambda: True)
    metrics = Metrics(kinds=(), queues=["default"])
    relay = Relay(jobs.database, delivery_queue, LEASE, lambda: True, metrics, executor, runner)
    executor.on_idle = relay.notify_idle

    async with running(relay.run()), working(executor):
        await until(lambda: counted.ended == 24)

    assert counted.most == 2


async def test_a_drain_keeps_to_the_limits_of_keys_and_runs_what_they_allow(
    jobs: Jobs, make_runner: MakeRunner
) -> None:
    counted = Counted(Mode.TX)
    for _ in range(5):
        await jobs.enqueue(Call())

    states = await drain(make_runner(counted.handler), queues=["default"], lease=LEASE)

    assert (states, counted.most) == ({"completed": 5}, 1)


async def test_the_kit_runs_jobs_with_limits(jobs: Jobs, database: Database) -> None:
    counted = Counted(Mode.LEASE)
    for _ in range(3):
        await jobs.enqueue(Call(), owner_id=new_id())

    assert await testing.drain(database, handlers=[counted.handler]) == {"completed": 3}

    with testing.inline(database, handlers=[counted.handler]):
        async with database.unit_of_work() as session:
            await enqueue(session, Call())
    assert counted.ended == 4


async def test_limits_are_declared_as_soon_as_the_database_answers(
    jobs: Jobs, make_runner: MakeRunner, database: Database
) -> None:
    runner = make_runner(Counted(Mode.TX).handler)
    await jobs.execute("ALTER TABLE job_limits RENAME TO away")

    async with running(declare_limits(runner, pause=0.01)):
        with capture_logs() as logs:
            await until(lambda: logs)
            await jobs.execute("ALTER TABLE away RENAME TO job_limits")

            await eventually(lambda: jobs.scalar("SELECT count(*) FROM job_limits WHERE running = 2"))

    assert logs[0]["event"] == "limits_not_declared"
