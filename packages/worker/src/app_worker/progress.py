"""How far a job is, shown often enough to watch and seldom enough to cost nothing."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

INTERVAL = timedelta(seconds=1)


class Progress:
    """Writes what a job says of itself at most once in `INTERVAL`; the latest word is written in the end."""

    def __init__(self, write: Callable[[Any], Awaitable[None]]) -> None:
        self.latest: Any = None  # Any: JSON
        self._write = write
        self._next_at = 0.0
        self._later: asyncio.Task[None] | None = None

    async def show(self, progress: Any) -> None:  # Any: JSON
        """Write it now if the last one is long enough ago; else a moment later, unless it is replaced meanwhile.

        Raises:
            Fenced: when it is written now, and the delivery holds the job no longer.
        """
        self.latest = progress
        wait = self._next_at - time.monotonic()
        if wait > 0:
            self._later = self._later or asyncio.create_task(self._show_later(wait))
            return
        self._next_at = time.monotonic() + INTERVAL.total_seconds()
        await self._write(progress)

    async def close(self) -> None:
        """Write nothing more: the end of the job carries `latest`."""
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
                with contextlib.suppress(Exception):  # whatever it is, the handler meets it at its next step
                    await self._write(shown)
        finally:
            self._later = None
