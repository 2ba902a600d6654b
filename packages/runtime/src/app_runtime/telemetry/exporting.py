"""Serves the metrics and the health of a process while it works, and a little longer."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from prometheus_client import CollectorRegistry

from app_runtime.telemetry.endpoint import Endpoint, Health, MetricsSettings
from app_runtime.telemetry.series import Counter

log = structlog.get_logger(__name__)

PORTS = 16
"""How many processes of one host find a port, counted up from `APP_METRICS__PORT` (ADR-0049)."""
STOP_LOOK = 0.1
"""Seconds between two checks of the endpoint whether it shall stop."""


@asynccontextmanager
async def exporting(
    settings: MetricsSettings, registry: CollectorRegistry, health: Callable[[], Health]
) -> AsyncIterator[None]:
    """Serve /metrics, /health and /live during the block, if the settings ask for it, and for `stop_delay` after it.

    If no port is free, the process works without the endpoint, and logs that.

    Raises:
        OSError: when the address is not one of this machine, or this user may not open the port.
    """
    started = Counter("app_started", "Starts of this process: 1.", registry=registry)
    stopped = Counter("app_stopped", "Its ends: 1 once all else has stopped.", registry=registry)
    endpoint = _open(settings, registry, health) if settings.enabled else None
    if endpoint is None:
        yield
        return
    with endpoint:
        # A daemon thread, because a client may never hang up.
        threading.Thread(target=endpoint.serve_forever, args=[STOP_LOOK], name="telemetry", daemon=True).start()
        log.info("telemetry_started", host=settings.host, port=endpoint.port)
        started.inc()
        try:
            yield
        finally:
            stopped.inc()
            await asyncio.sleep(settings.stop_delay.total_seconds())  # guard: test_the_last_figures_can_be_scraped
            await asyncio.to_thread(endpoint.shutdown)


def _open(settings: MetricsSettings, registry: CollectorRegistry, health: Callable[[], Health]) -> Endpoint | None:
    for port in range(settings.port, min(settings.port + (PORTS if settings.port else 1), 65536)):
        try:
            return Endpoint(settings, registry, health, port=port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    log.warning("telemetry_port_taken", host=settings.host, port=settings.port)
    return None
