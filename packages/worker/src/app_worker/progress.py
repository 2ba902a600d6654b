"""The progress of a job, written to the ledger at most once a second."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

INTERVAL = timedelta(seconds=1)


class Progress:
    """Writes the progress of a job at most once per `INTERVAL`; the finish of the job writes the latest one."""

    def __init__(self, write: Callable[[Any], Awaitable[None]]) -> None:
        self.latest: Any = None  # Any: JSON
        self._write = write
        self._next_at = 0.0
        self._later: asyncio.Task[None] | None = None

    async def show(self, progress: Any) -> None:  # Any: JSON
        """Write the progress now if `INTERVAL` is over; else later, unless another one replaces it.

        Raises:
            Fenced: when it is written now, and the delivery no longer holds the job.
        """
        self.latest = progress
        wait = self._next_at - time.monotonic()
        if wait > 0:
            self._later = self._later or asyncio.create_task(self._show_later(wait))
            return
        self._next_at = time.monotonic() + INTERVAL.total_seconds()
        await self._write(progress)

    async def close(self) -> None:
        """Write no more: the finish of the job writes `latest`."""
        if (later := self._later) is not None:
            later.cancel()
            await asyncio.gather(later, return_exceptions=True)

    async def _show_later(self, wait: float) -> None:
        try:
            shown = None
            while shown is not self.latest:
                await asyncio.sleep(wait)
                wait = INTERVAL.total_seconds()
                self._next_at = time.monotonic() + wait
                shown = self.latest
                with contextlib.suppress(Exception):  # the handler gets such an error at its next call
                    await self._write(shown)
        finally:
            self._later = None
