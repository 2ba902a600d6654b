"""`python -m tests.e2e.chaos.worker`: a worker as `python -m app_worker run`, which can run our jobs besides."""

import asyncio

import uvloop

from app_worker.handlers import HANDLERS
from app_worker.observability import configure_logging
from app_worker.process import run_worker
from app_worker.settings import WorkerSettings
from tests.e2e.chaos import jobs

if __name__ == "__main__":
    settings = WorkerSettings()
    configure_logging(settings.log)
    asyncio.run(run_worker(settings, handlers=(*HANDLERS, *jobs.HANDLERS)), loop_factory=uvloop.new_event_loop)
