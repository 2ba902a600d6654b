"""Standard output and error of a server: a slow or missing reader does not block the server."""

import atexit
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import structlog
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)

ROOM: Final = 1024 * 1024
"""Bytes that may wait for the reader; further output is dropped and counted."""
PIECE: Final = 64 * 1024
LAST_WORDS: Final = timedelta(seconds=1)
"""How long an ending process waits for the reader."""
STREAMS: Final = ("stderr", "stdout")


class Outlet(io.TextIOBase):
    """A text stream whose `write` only buffers the text; a thread writes it to the descriptor.

    Writers never wait: not for a pipe without a reader, a stopped terminal or a disk that hangs.
    """

    def __init__(self, descriptor: int, *, room: int = ROOM) -> None:
        """Start the thread, which ends with the process."""
        self.dropped = 0
        """How many texts, mostly lines, were dropped."""
        self._descriptor = descriptor
        self._room = room
        self._size = 0
        self._waiting: deque[bytes] = deque()
        self._lock = threading.RLock()  # a signal handler may write while its thread writes
        self._wake = threading.Semaphore(0)
        self._is_idle = True
        self._reported = 0
        threading.Thread(target=self._hand_over, name="outlet", daemon=True).start()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        """Return the encoding of the text."""
        return "utf-8"

    def fileno(self) -> int:
        """Return the descriptor; a direct write to it may block."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a terminal reads it."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str, /) -> int:
        """Buffer the text, or drop it if the buffer is full. Never waits."""
        data = text.encode(errors="backslashreplace")
        with self._lock:
            if self._size + len(data) > self._room:  # guard: test_what_finds_no_room_is_dropped_and_counted
                self.dropped += 1
                return len(text)
            self._waiting.append(data)
            self._size += len(data)
            was_idle, self._is_idle = self._is_idle, False
        if was_idle:
            self._wake.release()
        return len(text)

    def drain(self, patience: timedelta = LAST_WORDS) -> bool:
        """Wait up to `patience` until all text is written, and return whether it is."""
        end = time.monotonic() + patience.total_seconds()
        while self._size and time.monotonic() < end:
            time.sleep(0.005)
        return not self._size

    def _hand_over(self) -> None:
        while True:
            self._wake.acquire()
            while piece := self._next_piece():
                self._write_all(piece)
                with self._lock:
                    self._size -= len(piece)
                    missed, self._reported = self.dropped - self._reported, self.dropped
                if missed:
                    log.warning("log_lines_dropped", count=missed)

    def _next_piece(self) -> bytes:
        with self._lock:
            lines: list[bytes] = []
            size = 0
            while self._waiting and (not lines or size + len(self._waiting[0]) <= PIECE):
                lines.append(self._waiting.popleft())
                size += len(lines[-1])
            self._is_idle = not lines
            return b"".join(lines)

    def _write_all(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process that shares the descriptor has made it non-blocking
                select.select([], [self._descriptor], [])
            except OSError:  # the reader has gone, or the disk is full
                with self._lock:
                    self.dropped += piece.count(b"\n")
                    self._reported = self.dropped  # there is no reader for a report
                return


class OutletCollector(Collector):
    """Exports how many lines of standard output and error were dropped."""

    def collect(self) -> Iterator[Metric]:
        """Yield `app_log_lines_dropped_total`."""
        dropped = sum(stream.dropped for name in STREAMS if isinstance(stream := getattr(sys, name), Outlet))
        yield CounterMetricFamily("app_log_lines_dropped", "Lines that nobody read in time.", dropped)


def never_wait_for_readers() -> None:
    """Make standard output and error of this process outlets, until it ends; call it before logging is configured.

    Streams that other code has replaced, as tests do, are left alone.
    """
    for name in STREAMS:
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            outlet = Outlet(stream.fileno())
            setattr(sys, name, outlet)  # guard: test_a_log_that_nobody_reads_holds_up_no_request
            atexit.register(outlet.drain)
