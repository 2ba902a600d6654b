"""`python -m tests.e2e.chaos.worker`: a worker as `python -m app_worker run`, which also runs the jobs of jobs.py."""

import asyncio
import os

import uvloop

from app_runtime.configuration import load
from app_runtime.telemetry.logs import configure_logging
from app_worker.handlers import HANDLERS
from app_worker.process import run_worker
from app_worker.settings import ELSEWHERE, WorkerSettings
from tests.e2e.chaos import jobs
from tests.e2e.chaos.limited_jobs import leave_effect_within_a_limit

if __name__ == "__main__":
    settings = load(WorkerSettings, os.environ, elsewhere=ELSEWHERE)
    configure_logging(settings.log)
    asyncio.run(
        run_worker(settings, handlers=(*HANDLERS, *jobs.HANDLERS, leave_effect_within_a_limit)),
        loop_factory=uvloop.new_event_loop,
    )
