"""Servers that load the application by themselves: what stops them stops its live pages too."""

import signal

from app_api.serving import stopping_by_signal


def test_a_server_that_loads_the_application_tells_it_to_stop() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        stopping = stopping_by_signal()

        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopping.is_set()
    assert heard == [signal.SIGTERM]


def test_a_process_that_handles_no_signal_still_dies_of_it() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        stopping_by_signal()

        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
