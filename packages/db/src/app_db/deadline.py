"""One time limit for all database work of a request."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta


class _Clock:
    """Counts time while any database work runs: overlapping work once, gaps not at all."""

    __slots__ = ("_running", "_since", "_spent")

    def __init__(self) -> None:
        self._running = 0
        self._since = self._spent = 0.0

    def start(self) -> float:
        """Return the seconds that database work has taken so far."""
        now = time.monotonic()
        if not self._running:
            self._since = now - self._spent  # guard: test_time_between_database_work_is_not_counted
        self._running += 1
        return now - self._since

    def stop(self) -> None:
        self._running -= 1
        if not self._running:
            self._spent = time.monotonic() - self._since  # guard: test_slow_database_work_shares_one_deadline


_clock: ContextVar[_Clock | None] = ContextVar("database_clock", default=None)


@contextmanager
def one_deadline() -> Iterator[None]:
    """Let all database work in this block, and in the tasks that it starts, share one `request_timeout`.

    Only the time of database work counts. Without such a block, as in workers and scripts, each `database_work` has the
    whole time.
    """
    token = _clock.set(_Clock())
    try:
        yield
    finally:
        _clock.reset(token)  # guard: test_after_the_block_database_work_has_the_whole_time_again


@contextmanager
def database_work(limit: timedelta) -> Iterator[asyncio.Timeout]:
    """Yield a timeout to enter: `limit`, less the time that earlier database work of the block has taken."""
    seconds, clock = limit.total_seconds(), _clock.get()
    if clock is None:
        yield asyncio.timeout(seconds)
        return
    deadline = asyncio.timeout(seconds - clock.start())
    try:
        yield deadline
    finally:
        clock.stop()  # guard: test_time_between_database_work_is_not_counted
