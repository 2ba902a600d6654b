"""A worker process as `python -m app_worker run` makes it, with the bench's own jobs.

python -m bench.jobs_worker       with the worker's environment

BENCH_STARTS   a pipe that `Start` jobs write the time to, in nanoseconds
BENCH_PROFILE  a file for the profile of CPU time, written at the end
"""

import asyncio
import logging
import os
import socket
import time
from datetime import timedelta
from uuid import UUID

import uvloop
from sqlalchemy import text

from app_db.jobs.limits import Limit
from app_db.jobs.payload import JobPayload
from app_runtime.configuration import load
from app_runtime.telemetry.logs import configure_logging
from app_worker.context import JobContext
from app_worker.handlers import HANDLERS
from app_worker.process import run_worker
from app_worker.registry import Mode, handles
from app_worker.settings import ELSEWHERE, WorkerSettings
from bench.jobs_profile import profiled

_INSERT = text("INSERT INTO bench_effects (id, job_id, number) VALUES (uuidv7(), :job_id, :number)")


class Effect(JobPayload):
    """One row, written by a job in tx mode."""

    kind = "bench.effect"
    number: int


class Nothing(JobPayload):
    """No work at all, in lease mode."""

    kind = "bench.nothing"
    number: int


class Limited(JobPayload, limit=Limit(running=2, per="key")):
    """No work at all, in lease mode; two at once of each key."""

    kind = "bench.limited"
    number: int
    key: int


class Start(JobPayload):
    """Tells when it was started, in tx mode."""

    kind = "bench.start"


class Hang(JobPayload):
    """Leaves a thread behind, in lease mode."""

    kind = "bench.hang"
    number: int


class Lookup(JobPayload):
    """Needs a thread for a moment, as a mail client does for the name of its host, in lease mode."""

    kind = "bench.lookup"


@handles(Effect)
async def write_effect(job: JobContext, payload: Effect) -> None:
    """Write one row with the job's own session."""
    parameters: dict[str, UUID | int] = {"job_id": job.id, "number": payload.number}
    await job.session.execute(_INSERT, parameters)


@handles(Limited, mode=Mode.LEASE)
async def do_nothing_within_its_limit(job: JobContext, payload: Limited) -> None:
    """Return at once."""


@handles(Nothing, mode=Mode.LEASE)
async def do_nothing(job: JobContext, payload: Nothing) -> None:
    """Return at once."""


@handles(Start)
async def tell_start(job: JobContext, payload: Start) -> None:
    """Tell the bench that it runs."""
    write_start()


@handles(Hang, mode=Mode.LEASE, timeout=timedelta(seconds=1), max_attempts=1)
async def hang(job: JobContext, payload: Hang) -> None:
    """Run for longer than the timeout, in a thread that nothing can end."""
    await asyncio.to_thread(time.sleep, 45)


@handles(Lookup, mode=Mode.LEASE, timeout=timedelta(seconds=30), backoff=lambda attempt: timedelta(seconds=1))
async def look_up(job: JobContext, payload: Lookup) -> None:
    """Look the name up in a thread."""
    await asyncio.to_thread(socket.getfqdn)


def write_start() -> None:
    """Write the time to the bench's pipe; both ends share the clock of this machine."""
    now = time.time_ns()
    pipe = os.open(os.environ["BENCH_STARTS"], os.O_WRONLY)
    os.write(pipe, f"{now}\n".encode())
    os.close(pipe)


def main() -> None:
    """Run until SIGTERM."""
    settings = load(WorkerSettings, os.environ, elsewhere=ELSEWHERE)
    configure_logging(settings.log)
    logging.getLogger("arq").setLevel(logging.WARNING)
    with profiled(os.environ.get("BENCH_PROFILE")):
        asyncio.run(
            run_worker(
                settings,
                handlers=[*HANDLERS, write_effect, do_nothing, do_nothing_within_its_limit, tell_start, hang, look_up],
            ),
            loop_factory=uvloop.new_event_loop,
        )


if __name__ == "__main__":
    main()
