"""The time limit of a handler, which stands still while something runs that has limits of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import timedelta


class _Limit:
    """One running limit; several parts of a handler may halt it at once."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._halts = 0
        self._left = 0.0
        self._is_over = False

    def end(self) -> None:
        """Leave it to itself: tasks that outlive their handler have no limit to halt."""
        self._is_over = True

    @contextmanager
    def halted(self) -> Iterator[None]:
        time = asyncio.get_running_loop().time
        if self._halts == 0:
            self._left = (self._timeout.when() or 0) - time()
            self._reschedule(None)
        self._halts += 1
        try:
            yield
        finally:
            self._halts -= 1
            if self._halts == 0:
                self._reschedule(time() + self._left)

    def _reschedule(self, when: float | None) -> None:
        if not self._is_over and not self._timeout.expired():
            self._timeout.reschedule(when)


_running: ContextVar[_Limit | None] = ContextVar("time_limit", default=None)


@asynccontextmanager
async def time_limit(limit: timedelta) -> AsyncIterator[asyncio.Timeout]:
    """End the block after this time, but for what is spent in `own_limits`; gives what knows whether it was too long.

    Raises:
        TimeoutError: it took longer.
    """
    async with asyncio.timeout(limit.total_seconds()) as timeout:
        running = _Limit(timeout)
        token = _running.set(running)
        try:
            yield timeout
        finally:
            running.end()
            _running.reset(token)


@contextmanager
def own_limits() -> Iterator[None]:
    """Halt the limit of the handler that this runs in, if it runs in one: each step in here has a limit of its own."""
    limit = _running.get()
    if limit is None:
        yield
    else:
        with limit.halted():
            yield
