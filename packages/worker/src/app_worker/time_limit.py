"""The time limit of a handler, which is paused while code with limits of its own runs."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from types import TracebackType


class _Limit:
    """A running time limit; several tasks of a handler may pause it at once."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self._timeout = timeout
        self._pauses = 0
        self._left = 0.0
        self._is_over = False

    def end(self) -> None:
        """Reschedule no more: tasks that outlive their handler have no limit."""
        self._is_over = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        time = asyncio.get_running_loop().time
        if self._pauses == 0:
            self._left = (self._timeout.when() or 0) - time()
            self._reschedule(None)
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if self._pauses == 0:
                self._reschedule(time() + self._left)

    def _reschedule(self, when: float | None) -> None:
        if not self._is_over and not self._timeout.expired():
            self._timeout.reschedule(when)


_running: ContextVar[_Limit | None] = ContextVar("time_limit", default=None)


class time_limit:  # noqa: N801  # a class is faster than a generator, and each job enters it
    """End the block after this time, not counting the time in `own_limits`; `as` gives the `asyncio.Timeout`.

    Raises:
        TimeoutError: the block took longer.
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
    """Pause the limit of the surrounding handler, if there is one: each step of the block has a limit of its own."""
    limit = _running.get()
    if limit is None:
        yield
    else:
        with limit.paused():
            yield
