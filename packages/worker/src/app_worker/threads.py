"""The threads of handlers: a bounded pool for each kind of job, which nothing of ours waits for."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import structlog
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)

THREADS_PER_KIND = 32
"""So many calls of `asyncio.to_thread` run at once for the jobs of one kind; further ones wait for these."""
OURS = ""
"""The pool of what no handler has called."""


@dataclass(slots=True, eq=False)
class Hand:
    """A job whose handler runs, or whose threads still do."""

    kind: str
    has_ended: bool = False
    threads: int = 0
    """Calls of its that run in threads now."""


_hand: ContextVar[Hand | None] = ContextVar("hand", default=None)


class HandlerExited(Exception):
    """The handler raised what ends processes; here it is one failed attempt."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")


class in_hand:  # noqa: N801  # a class, and no generator, since each job goes through it
    """Let the threads that are started in the block count for a job of this kind."""

    __slots__ = ("_hand", "_token")

    def __init__(self, kind: str) -> None:
        self._hand = Hand(kind)

    def __enter__(self) -> None:
        self._token = _hand.set(self._hand)

    def __exit__(self, *_: object) -> None:
        _hand.reset(self._token)
        self._hand.has_ended = True
        if self._hand.threads:
            log.warning("job_threads_outlived", threads=self._hand.threads)


@contextmanager
def ours() -> Iterator[None]:
    """Let what a handler calls of ours in the block have threads that no handler can take up."""
    token = _hand.set(None)
    try:
        yield
    finally:
        _hand.reset(token)


class _Pool:
    """Threads that end with the process, whatever they do: one that hangs does not keep a worker from stopping."""

    def __init__(self, name: str, *, size: int) -> None:
        self._name = name
        self._size = size
        self._threads = 0
        self._idle = threading.Semaphore(0)
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def put(self, call: Callable[[], None]) -> None:
        """Run it in a thread; called by one thread at a time."""
        # First the call, or a thread that is new would find nothing and count as idle while it makes this one.
        self._calls.put(call)
        if not self._idle.acquire(blocking=False) and self._threads < self._size:
            self._start()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"handler-{self._name}", daemon=True).start()
        except RuntimeError:  # the system gives no more: those that are there do it
            if not self._threads:
                self._calls.get_nowait()  # nobody will make it
                raise
        else:
            self._threads += 1

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except Empty:
                self._idle.release()
                call = self._calls.get()
            call()


class HandlerThreads(ThreadPoolExecutor, Collector):
    """What `asyncio.to_thread` and `run_in_executor(None, …)` run in: a pool for each kind, and one for the rest.

    A job that is over does not stop its threads: Python cannot. They keep places of their own kind only.
    """

    def __init__(self, kinds: Iterable[str], *, size: int = THREADS_PER_KIND) -> None:
        super().__init__()  # asyncio takes no other executor; its threads are never started
        self._size = size
        self._kinds = tuple(kinds)
        self._lock = threading.Lock()
        self._pools: dict[str, _Pool] = {}
        self._running: set[tuple[int, Hand]] = set()

    def submit[T](self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run the function in the pool of the job that asks for it."""
        future: Future[T] = Future()
        hand = _hand.get()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                with self._counted(hand):
                    result = function(*args, **kwargs)
            except BaseException as error:  # whoever waits for the result gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        kind = OURS if hand is None else hand.kind
        with self._lock:
            pool = self._pools.get(kind)
            if pool is None:
                pool = self._pools[kind] = _Pool(kind, size=self._size)
            pool.put(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  # inherited
        """Wait for nobody: a thread that hangs must not keep the process."""

    def outlived(self) -> Counter[str]:
        """Return how many threads still run for jobs that are over, by kind."""
        with self._lock:
            return Counter(hand.kind for _, hand in self._running if hand.has_ended)

    def collect(self) -> Iterator[Metric]:
        """Yield `app_job_threads_outlived`."""
        outlived = self.outlived()
        gauge = GaugeMetricFamily("app_job_threads_outlived", "Threads of jobs that are over.", labels=["kind"])
        for kind in self._kinds:
            gauge.add_metric([kind], outlived[kind])
        yield gauge

    @contextmanager
    def _counted(self, hand: Hand | None) -> Iterator[None]:
        if hand is None:
            yield
            return
        entry = (threading.get_ident(), hand)
        with self._lock:
            self._running.add(entry)
            hand.threads += 1
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(entry)
                hand.threads -= 1


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine of a handler's task: what would end the event loop ends the task alone."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        try:
            return self._coroutine.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise HandlerExited(error) from error

    def throw(self, *thrown: Any) -> Any:
        try:
            return self._coroutine.throw(*thrown)
        except (SystemExit, KeyboardInterrupt) as error:
            raise HandlerExited(error) from error

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


def use_threads(kinds: Iterable[str]) -> HandlerThreads:
    """Give the running loop the threads of handlers, and let no task of a handler end the loop."""
    loop = asyncio.get_running_loop()
    threads = HandlerThreads(kinds)
    loop.set_default_executor(threads)
    loop.set_task_factory(_new_task)
    return threads


def _new_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    if _hand.get() is not None:
        coroutine = _Contained(coroutine)
    return asyncio.Task(coroutine, loop=loop, **options)
