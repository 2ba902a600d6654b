"""The connection pool of an engine, which counts the callers that wait for a connection."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry


class CountingPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool, with figures for metrics. They may be read from any thread."""

    __module__ = "sqlalchemy.pool"  # the name of its logger, which is noisy at INFO

    waiting = 0
    """How many callers wait for a connection."""
    waits = 0
    """How often a caller had to wait, since the start."""
    waited = 0.0
    """Seconds that callers have waited, since the start."""

    def _do_get(self) -> ConnectionPoolEntry:
        if self.checkedout() < self.size():
            return super()._do_get()
        with self._waiting():
            return super()._do_get()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        began = time.monotonic()
        self.waits += 1
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1
            self.waited += time.monotonic() - began


def pools_of(engines: Mapping[str, AsyncEngine]) -> Iterator[tuple[str, CountingPool]]:
    """Yield the pool of each engine with its name."""
    for name, engine in engines.items():
        assert isinstance(engine.pool, CountingPool), "what app_db.connections makes"
        yield name, engine.pool
