"""Whether the event loop of a process runs, and whether the process has file descriptors left."""

import asyncio
import os
import resource
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from app_runtime.telemetry.lag import LoopLag


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    """Leave this process no file descriptors for a moment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_loop_that_turns_has_no_lag() -> None:
    lag = LoopLag(time.monotonic() - 60)
    assert lag.seconds > 50

    async with lag.watched():
        await asyncio.sleep(0)

        assert lag.seconds == 0


async def test_the_longest_delay_of_a_minute_is_kept() -> None:
    lag = LoopLag()
    async with lag.watched():
        await asyncio.sleep(0)
        assert lag.longest == 0
        time.sleep(1.2)  # noqa: ASYNC251  # the loop is blocked, which is the point
        await asyncio.sleep(0.05)

        assert 0.1 < lag.longest < 60


async def test_a_process_without_descriptors_says_so_now_and_then(no_descriptors: None) -> None:
    lag = LoopLag()

    with capture_logs() as logs:
        for _ in range(61):
            lag._look_at_descriptors()

    assert [(line["event"], line["log_level"]) for line in logs] == [("descriptors_exhausted", "error")] * 2
