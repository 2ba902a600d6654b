"""Where the CPU time of a worker goes: a sampler, because a tracing profiler makes short functions look dear."""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import greenlet  # type: ignore[import-untyped]  # as SQLAlchemy uses it

SECONDS = 0.001
"""Between samples, of CPU time; the kernel may round it up to its tick."""
LINES = 110


@contextmanager
def profiled(path: str | None) -> Iterator[None]:
    """Write to `path` what share of the CPU time each function used, itself and with all that it called."""
    if path is None:
        yield
        return
    itself: Counter[str] = Counter()
    in_all: Counter[str] = Counter()

    def sample(_: int, frame: FrameType | None) -> None:
        if frame is not None:
            itself[_name(frame)] += 1
        in_all.update({_name(caller) for caller in _callers(frame)})

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, SECONDS, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        Path(path).write_text("\n".join([*_table("itself", itself), *_table("with what it called", in_all)]))


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frame and all its callers, also across the greenlets in which SQLAlchemy runs its drivers."""
    current: greenlet.greenlet | None = greenlet.getcurrent()
    while current is not None:
        while frame is not None:
            yield frame
            frame = frame.f_back
        current = current.parent
        frame = current.gr_frame if current is not None else None


def _name(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_code.co_qualname}"


def _table(title: str, samples: Counter[str]) -> list[str]:
    count = samples.total() if title == "itself" else max(samples.values(), default=1)
    return [
        f"{title}, of {count} samples",
        *(f"{hits / count:7.1%} {name}" for name, hits in samples.most_common(LINES)),
    ]
