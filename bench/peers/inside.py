"""What every adapter shares. Only the standard library: each runs in the environment of its own system.

A job writes when it began and ended into a file that the bench maps too, so counting costs no round trip.
"""

import asyncio
import mmap
import os
import random
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

WARM_UP = 3
PAUSE = 0.1
"""Seconds, at most, between two idle jobs."""
INSERT = "INSERT INTO bench_effects (number) VALUES ($1)"
INSERT_PSYCOPG = "INSERT INTO bench_effects (number) VALUES (%s)"
HEAD = struct.Struct("<qq")
"""How many jobs have ended, and when the first began; then, as often as there are jobs, its begin and its end."""


class Client(Protocol):
    """How a system enqueues."""

    async def seed(self, kind: str, count: int) -> None:
        """Enqueue jobs with the numbers below `count`, as fast as it goes."""

    async def one(self, number: int) -> None:
        """Enqueue a job that does nothing, in a transaction of its own."""

    async def start(self) -> None:
        """Enqueue a job that tells when it began, in a transaction of its own."""


class Marks:
    """The file of times."""

    def __init__(self, path: str) -> None:
        self.count = 0
        with Path(path).open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)

    @contextmanager
    def of(self, number: int) -> Iterator[None]:
        """Note the begin and the end of a job."""
        now = time.time_ns()
        if not self.count:
            struct.pack_into("<q", self.map, 8, now)
        struct.pack_into("<q", self.map, HEAD.size * (number + 1), now)
        yield
        self.count += 1
        struct.pack_into("<q", self.map, HEAD.size * (number + 1) + 8, time.time_ns())
        struct.pack_into("<q", self.map, 0, self.count)


def told(name: str) -> str:
    """Return what the bench has told this process."""
    return os.environ.get(f"BENCH_{name}", "")


POSTGRES = told("POSTGRES")
VALKEY = told("VALKEY")
SLOTS = int(told("SLOTS") or 10)
marks = Marks(told("MARKS")) if told("MARKS") else None


@contextmanager
def marked(number: int) -> Iterator[None]:
    """Note the begin and the end of a job."""
    assert marks is not None, "only a worker runs jobs"
    with marks.of(number):
        yield


def nothing(number: int) -> None:
    """Do the job that does nothing."""
    with marked(number):
        pass


def write_start() -> None:
    """Write the time to the bench's pipe; all processes share the clock of this machine."""
    now = time.time_ns()
    pipe = os.open(told("STARTS"), os.O_WRONLY)
    os.write(pipe, f"{now}\n".encode())
    os.close(pipe)


async def measure_starts(client: Client, samples: int) -> None:
    """Print the milliseconds from before the transaction that enqueues to the handler's first line."""
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.open(told("STARTS"), os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    for sample in range(samples + WARM_UP):
        await asyncio.sleep(random.uniform(0.02, 0.02 + PAUSE))
        before = time.time_ns()
        await client.start()
        milliseconds = (int(await asyncio.wait_for(reader.readline(), 60)) - before) / 1e6
        if sample >= WARM_UP:
            print(milliseconds)


async def measure_enqueue(client: Client, count: int) -> None:
    """Print how many jobs a second one task enqueues, a transaction each."""
    await client.one(0)
    before = time.perf_counter()
    for number in range(count):
        await client.one(number)
    print(count / (time.perf_counter() - before))


async def gathered(enqueue: Callable[[int], Awaitable[object]], count: int) -> None:
    """Enqueue a hundred at once, where a system has no call for many."""
    for first in range(0, count, 100):
        await asyncio.gather(*(enqueue(number) for number in range(first, min(first + 100, count))))
