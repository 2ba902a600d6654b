"""Tells the other threads of a process whether its event loop runs."""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

log = structlog.get_logger(__name__)

TICK = timedelta(seconds=1)
REPEAT = 60
"""Ticks between two log lines about missing descriptors."""
KEPT = 60
"""Ticks whose delays are kept."""


@dataclass(slots=True, eq=False)
class LoopLag:
    """Notes once a second that the event loop runs; `tick_at` is a time of `time.monotonic()`."""

    tick_at: float = field(default_factory=time.monotonic)
    _exhausted_for: int = 0
    _delays: deque[float] = field(default_factory=lambda: deque([0.0], maxlen=KEPT))

    @property
    def seconds(self) -> float:
        """For how long the event loop has been blocked; 0 if it is not."""
        return max(0.0, time.monotonic() - self.tick_at - TICK.total_seconds())

    @property
    def longest(self) -> float:
        """The longest time, in seconds, for which the event loop was late within the last minute."""
        return max(self._delays)

    async def keep_ticking(self) -> None:
        """Note that the event loop runs, and log when the process is out of descriptors, until cancelled."""
        while True:
            self.tick_at = time.monotonic()
            self._look_at_descriptors()
            await asyncio.sleep(TICK.total_seconds())
            self._delays.append(self.seconds)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Tick during the block."""
        ticking = asyncio.create_task(self.keep_ticking())
        try:
            yield
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking

    def _look_at_descriptors(self) -> None:
        # libuv refuses connections without an error when no descriptors are left.
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if self._exhausted_for % REPEAT == 0:
                log.error("descriptors_exhausted", cause=repr(error))  # noqa: TRY400  # the trace says nothing
            self._exhausted_for += 1
        else:
            self._exhausted_for = 0
