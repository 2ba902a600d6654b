"""How long the database work of one request may take, all of it together."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta


class _Clock:
    """Runs while a piece of work does: pieces within or beside each other count once, what is between them never."""

    __slots__ = ("_running", "_since", "_spent")

    def __init__(self) -> None:
        self._running = 0
        self._since = self._spent = 0.0

    def start(self) -> float:
        """Return the seconds that all pieces have taken so far."""
        now = time.monotonic()
        if not self._running:
            self._since = now - self._spent  # guard: test_what_is_between_two_pieces_of_work_is_not_counted
        self._running += 1
        return now - self._since

    def stop(self) -> None:
        self._running -= 1
        if not self._running:
            self._spent = time.monotonic() - self._since  # guard: test_two_slow_pieces_of_work_share_one_deadline


_clock: ContextVar[_Clock | None] = ContextVar("database_clock", default=None)


@contextmanager
def one_deadline() -> Iterator[None]:
    """Let all pieces of database work in this block, and in the tasks that it starts, share one `request_timeout`.

    Only what they take counts. Without such a block, as in workers and scripts, each piece has the whole time.
    """
    token = _clock.set(_Clock())
    try:
        yield
    finally:
        _clock.reset(token)  # guard: test_behind_the_block_each_piece_has_the_whole_time_again


@contextmanager
def piece_of_work(limit: timedelta) -> Iterator[asyncio.Timeout]:
    """Yield the time-out of one piece, to be entered: `limit`, less what the pieces before it have taken."""
    seconds, clock = limit.total_seconds(), _clock.get()
    if clock is None:
        yield asyncio.timeout(seconds)
        return
    deadline = asyncio.timeout(seconds - clock.start())
    try:
        yield deadline
    finally:
        clock.stop()  # guard: test_what_is_between_two_pieces_of_work_is_not_counted
