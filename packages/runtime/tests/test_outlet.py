"""Standard output and error of a process that serves, read slowly, never, or by nobody any more.

Reported of others: a full pipe stops the event loop, and with it health checks and signal handlers (moby/moby #22502,
Docker's documentation on the blocking delivery of logs).
"""

import fcntl
import os
import select
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from app_runtime.telemetry.outlet import Outlet, OutletCollector, never_wait_for_readers

PATIENCE = timedelta(seconds=90)
MOMENT = timedelta(milliseconds=50)


class Pipe:
    """A pipe of one page."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self._open = {self.reader, self.writer}
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += os.read(self.reader, size - len(data))
        return data

    def stop_reading(self) -> None:
        self._open.remove(self.reader)  # a second close would be of whatever has the number by then
        os.close(self.reader)

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_what_is_written_arrives_in_order(pipe: Pipe) -> None:
    outlet = Outlet(pipe.writer)

    for number in range(100):
        outlet.write(f"{number} \N{SNOWMAN} \ud800\n")

    expected = "".join(f"{number} \N{SNOWMAN} \\ud800\n" for number in range(100)).encode()
    assert pipe.read(len(expected)) == expected
    assert outlet.drain(PATIENCE)


def test_what_finds_no_room_is_dropped_and_counted(pipe: Pipe) -> None:
    outlet = Outlet(pipe.writer, room=20_000)
    line = "x" * 99 + "\n"

    for _ in range(1000):
        outlet.write(line)

    assert 800 <= outlet.dropped <= 850  # a page may be in the pipe
    assert not outlet.drain(MOMENT)
    pipe.read((1000 - outlet.dropped) * 100)
    assert outlet.drain(PATIENCE)


def test_who_reads_again_is_told_what_was_dropped(pipe: Pipe) -> None:
    outlet = Outlet(pipe.writer, room=20_000)
    with capture_logs() as logs:
        for _ in range(1000):
            outlet.write("x" * 99 + "\n")
        pipe.read((1000 - outlet.dropped) * 100)
        assert outlet.drain(PATIENCE)
        outlet.write("last\n")
        pipe.read(5)

    assert sum(line["count"] for line in logs if line["event"] == "log_lines_dropped") == outlet.dropped


def test_where_nobody_reads_any_more_lines_are_lost_and_counted(pipe: Pipe) -> None:
    pipe.stop_reading()
    outlet = Outlet(pipe.writer)

    while not outlet.dropped:  # a program that another thread just starts may have the reader for a moment
        outlet.write("one\ntwo\n")
        assert outlet.drain(PATIENCE)

    assert outlet.dropped == 2


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, select_now = threading.Event(), select.select

    def select_and_tell(readers: list[int], writers: list[int], others: list[int]) -> object:
        waits.set()
        return select_now(readers, writers, others)

    monkeypatch.setattr(select, "select", select_and_tell)
    os.set_blocking(pipe.writer, False)
    outlet = Outlet(pipe.writer)

    outlet.write("x" * 50_000)

    assert waits.wait(PATIENCE.total_seconds())
    assert pipe.read(50_000) == b"x" * 50_000
    assert outlet.drain(PATIENCE)


def test_it_is_a_stream_like_another(pipe: Pipe) -> None:
    outlet = Outlet(pipe.writer)

    print("hello", file=outlet, flush=True)

    assert pipe.read(6) == b"hello\n"
    assert (outlet.fileno(), outlet.isatty(), outlet.writable(), outlet.encoding) == (pipe.writer, False, True, "utf-8")


def test_a_process_never_waits_for_its_readers(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = os.fdopen(pipe.writer, "w", closefd=False)
    for name in ("stdout", "__stdout__"):
        monkeypatch.setattr(sys, name, stream)
    before = sys.stderr  # pytest's own

    never_wait_for_readers()
    never_wait_for_readers()

    assert isinstance(sys.stdout, Outlet)
    assert sys.stderr is before
    registry = CollectorRegistry()
    registry.register(OutletCollector())
    assert "app_log_lines_dropped_total 0.0" in generate_latest(registry).decode()
    assert sum(thread.name == "outlet" for thread in threading.enumerate()) >= 1
