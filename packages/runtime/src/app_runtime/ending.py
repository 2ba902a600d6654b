"""Ends a process in time, even if threads hang."""

import os
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog

from app_runtime.telemetry.outlet import Outlet

log = structlog.get_logger(__name__)

PATIENCE: Final = timedelta(seconds=0.5)
INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, as shells use it."""


def end_soon(*, patience: timedelta = PATIENCE) -> None:
    """End this process after `patience` unless it ends by itself; call it after the last work.

    Python waits at its end for every thread, and asyncio for those of `asyncio.to_thread`: a thread that hashes for
    hours, or waits for a silent server, would keep the process until somebody kills it. The status is 0; it is 1 if
    this is called during an exception, which is then logged.
    """
    failure = sys.exception()
    arguments = (patience.total_seconds(), failure)
    threading.Thread(target=_end, args=arguments, name="process-end", daemon=True).start()


def _end(seconds: float, failure: BaseException | None) -> None:
    time.sleep(seconds)
    while not (others := _others()):  # the process is only slow: no thread keeps it
        time.sleep(seconds)
    log.warning("threads_left_behind", threads=others, exc_info=failure)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.drain() if isinstance(stream, Outlet) else stream.flush()
    os._exit(0 if failure is None else 1)  # guard: test_a_thread_that_goes_on_does_not_keep_its_process


def _others() -> list[str]:
    here = {threading.main_thread(), threading.current_thread()}
    return sorted(thread.name for thread in threading.enumerate() if thread not in here and not thread.daemon)
