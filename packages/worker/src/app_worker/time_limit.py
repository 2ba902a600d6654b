"""The time limit of a handler, which stands still while something runs that has limits of its own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from types import TracebackType


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


class time_limit:  # noqa: N801  # a class, and no generator, since each job goes through it
    """End the block after this time, but for what is spent in `own_limits`; gives what knows whether it was too long.

    Raises:
        TimeoutError: it took longer.
    """

    __slots__ = ("_running", "_timeout", "_token")

    def __init__(self, limit: timedelta) -> None:
        self._timeout = asyncio.timeout(limit.total_seconds())
        self._running = _Limit(self._timeout)

    async def __aenter__(self) -> asyncio.Timeout:
        await self._timeout.__aenter__()
        self._token = _running.set(self._running)
        return self._timeout

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.end()
        _running.reset(self._token)
        await self._timeout.__aexit__(kind, error, trace)


@contextmanager
def own_limits() -> Iterator[None]:
    """Halt the limit of the handler that this runs in, if it runs in one: each step in here has a limit of its own."""
    limit = _running.get()
    if limit is None:
        yield
    else:
        with limit.halted():
            yield
