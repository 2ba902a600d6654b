"""What runs beside the jobs so that others can see how they do: the endpoint, and the loops that feed it."""

import asyncio
import errno
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from app_db import Database
from app_db.repositories.jobs import JobRepository
from app_worker.endpoint import Endpoint
from app_worker.metrics import Metrics
from app_worker.settings import WorkerSettings
from app_worker.vitals import Vitals

log = structlog.get_logger(__name__)

LOOK = timedelta(seconds=15)
"""How often the ledger is asked, unless that takes long: the one statement reads all open jobs."""

STOP_LOOK = 0.1
"""Seconds after which the endpoint sees that it shall stop."""


@asynccontextmanager
async def telemetry(
    settings: WorkerSettings, database: Database, metrics: Metrics, vitals: Vitals
) -> AsyncIterator[None]:
    """Serve metrics and health during the block, if the settings ask for it.

    Where another process has the port, the worker runs without: its jobs matter more. The log says so.

    Raises:
        OSError: when the address is not one of this machine, or the port is not for this user.
    """
    endpoint = _open(settings, metrics, vitals) if settings.metrics.enabled else None
    if endpoint is None:
        yield
        return
    metrics.registry.register(vitals)
    with endpoint:
        # A daemon: not even a client that never hangs up keeps the process.
        threading.Thread(target=endpoint.serve_forever, args=[STOP_LOOK], name="telemetry", daemon=True).start()
        log.info("telemetry_started", host=settings.metrics.host, port=endpoint.port)
        loops = [asyncio.create_task(vitals.keep_ticking()), asyncio.create_task(keep_looking(database, metrics))]
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await asyncio.to_thread(endpoint.shutdown)


def _open(settings: WorkerSettings, metrics: Metrics, vitals: Vitals) -> Endpoint | None:
    try:
        return Endpoint(settings.metrics, metrics, vitals, settings.worker)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        log.warning("telemetry_port_taken", host=settings.metrics.host, port=settings.metrics.port)
        return None


async def keep_looking(database: Database, metrics: Metrics, *, look: timedelta = LOOK) -> None:
    """Look at the queues in the ledger again and again, until cancelled; what cannot be seen is not shown."""
    while True:
        pause = look.total_seconds()
        began = time.monotonic()
        try:
            async with database.read_sessions() as session:
                metrics.ledger.queues = await JobRepository(session).queues()
            pause = pause_after(time.monotonic() - began, look)
        except Exception as error:  # an outage: old figures would say that all is well
            metrics.ledger.queues = ()  # guard: test_figures_that_nobody_can_check_are_not_shown
            log.warning("queues_not_seen", cause=repr(error))
        await asyncio.sleep(pause)


def pause_after(seconds: float, look: timedelta) -> float:
    """Return how many seconds to wait after a look that took so long: looking is a hundredth of the time at most."""
    return max(look.total_seconds(), 99 * seconds)
