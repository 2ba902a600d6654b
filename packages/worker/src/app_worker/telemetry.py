"""What runs beside the jobs so that others can see how they do: the endpoint, and the loops that feed it."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from app_db import Database
from app_worker.endpoint import Endpoint
from app_worker.metrics import Metrics
from app_worker.settings import WorkerSettings
from app_worker.vitals import Vitals

log = structlog.get_logger(__name__)


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
    ticking = asyncio.create_task(vitals.keep_ticking())
    # A daemon: not even a client that never hangs up keeps the process.
    threading.Thread(target=endpoint.serve_forever, name="telemetry", daemon=True).start()
    log.info("telemetry_started", host=settings.metrics.host, port=endpoint.port)
    try:
        yield
    finally:
        ticking.cancel()
        await asyncio.to_thread(endpoint.shutdown)
        endpoint.server_close()


def _open(settings: WorkerSettings, metrics: Metrics, vitals: Vitals) -> Endpoint | None:
    try:
        return Endpoint(settings.metrics, metrics, vitals, settings.worker)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        log.warning("telemetry_port_taken", host=settings.metrics.host, port=settings.metrics.port)
        return None
