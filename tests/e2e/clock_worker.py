"""`python -m tests.e2e.clock_worker`: a worker as `python -m app_worker run`, with jobs that run at known times."""

import asyncio
import os

import uvloop

from app_db.jobs.payload import JobPayload
from app_runtime.configuration import load
from app_runtime.telemetry.logs import configure_logging
from app_worker.context import JobContext
from app_worker.handlers import HANDLERS
from app_worker.process import run_worker
from app_worker.registry import handles
from app_worker.schedule import CatchUp, Cron
from app_worker.settings import ELSEWHERE, WorkerSettings


class Alarm(JobPayload):
    """A job for a certain time, so slow that one worker cannot run all of them."""

    kind = "clocks.alarm"


class Second(JobPayload):
    """The job of each second."""

    kind = "clocks.second"


class LatestSecond(JobPayload):
    """The job of each second; only one runs for all seconds that were missed."""

    kind = "clocks.latest_second"


class PunctualSecond(JobPayload):
    """The job of each second, unless it is found more than a minute late."""

    kind = "clocks.punctual_second"


@handles(Alarm)
async def ring(job: JobContext, payload: Alarm) -> None:
    await asyncio.sleep(0.1)


@handles(Second)
async def strike(job: JobContext, payload: Second) -> None: ...


@handles(LatestSecond)
async def strike_latest(job: JobContext, payload: LatestSecond) -> None: ...


@handles(PunctualSecond)
async def strike_in_time(job: JobContext, payload: PunctualSecond) -> None: ...


CRONS = (
    Cron(Second.kind, "* * * * * *", Second, catch_up=CatchUp.ALL),
    Cron(LatestSecond.kind, "* * * * * *", LatestSecond, catch_up=CatchUp.ONE),
    Cron(PunctualSecond.kind, "* * * * * *", PunctualSecond, catch_up=CatchUp.SKIP),
)

if __name__ == "__main__":
    settings = load(WorkerSettings, os.environ, elsewhere=ELSEWHERE)
    configure_logging(settings.log)
    worker = run_worker(settings, handlers=(*HANDLERS, ring, strike, strike_latest, strike_in_time), crons=CRONS)
    asyncio.run(worker, loop_factory=uvloop.new_event_loop)
