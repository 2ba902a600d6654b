"""A process ends in time, even if its threads do not."""

import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.measured]

PROGRAM = """
import asyncio, threading, time
from app_runtime.ending import end_soon

async def main():
    {start}
    try:
        {work}
    finally:
        end_soon()

asyncio.run(main())
print("by itself", flush=True)
"""
THREADS = {
    "to_thread": "asyncio.ensure_future(asyncio.to_thread(time.sleep, 60)); await asyncio.sleep(0.1)",
    "a pool": "import concurrent.futures as c; c.ThreadPoolExecutor().submit(time.sleep, 60)",
    "a thread": "threading.Thread(target=time.sleep, args=(60,), name='busy').start()",
}


def run(start: str, work: str = "pass") -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.monotonic()
    program = PROGRAM.format(start=start, work=work)
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    return process, time.monotonic() - began


@pytest.mark.parametrize("start", THREADS.values(), ids=list(THREADS))
def test_a_thread_that_goes_on_does_not_keep_its_process(start: str) -> None:
    """CPython joins all threads of pools at its end, and asyncio those of `to_thread` (up to 300 s)."""
    process, seconds = run(start)

    assert process.returncode == 0, process.stderr
    assert seconds < 20
    assert "threads_left_behind" in process.stdout + process.stderr


def test_a_process_that_fails_then_has_said_why() -> None:
    process, seconds = run(THREADS["to_thread"], "1 / 0")

    assert process.returncode == 1
    assert seconds < 20
    assert "ZeroDivisionError" in process.stdout + process.stderr


def test_a_process_without_such_threads_ends_by_itself() -> None:
    process, _ = run("pass")

    assert (process.returncode, process.stdout, process.stderr) == (0, "by itself\n", "")


def test_a_process_that_is_only_slow_ends_by_itself() -> None:
    process, _ = run("import atexit; atexit.register(lambda: (time.sleep(2), print('slow', flush=True)))")

    assert (process.returncode, process.stdout, process.stderr) == (0, "by itself\nslow\n", "")
