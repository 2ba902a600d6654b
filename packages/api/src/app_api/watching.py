"""Watches the dependencies of the API, for metrics and alerts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from app_api.health import ReadinessProbe
from app_api.metrics import Metrics

LOOK = timedelta(seconds=15)
"""The usual interval of Prometheus."""


@asynccontextmanager
async def watching(probe: ReadinessProbe, metrics: Metrics, *, look: timedelta = LOOK) -> AsyncIterator[None]:
    """Check the dependencies repeatedly during the block, and store the results in the metrics."""

    async def keep_looking() -> None:
        while True:
            checks = (await probe.known()).checks
            metrics.dependencies = {dependency: check == "ok" for dependency, check in checks.items()}
            await asyncio.sleep(look.total_seconds())

    looking = asyncio.create_task(keep_looking())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
