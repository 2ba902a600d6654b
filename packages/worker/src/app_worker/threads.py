"""The threads of handlers: a bounded pool for each kind of job, apart from the threads of the worker itself."""

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
"""How many calls of `asyncio.to_thread` run at once for the jobs of one kind; further calls wait."""
WORKER_POOL = ""
"""The name of the pool for calls of the worker itself."""


@dataclass(slots=True, eq=False)
class JobThreads:
    """The threads of a job whose handler runs, or has ended before them."""

    kind: str
    has_ended: bool = False
    threads: int = 0
    """How many of its calls run in threads now."""


_job: ContextVar[JobThreads | None] = ContextVar("job_threads", default=None)


class HandlerExited(Exception):
    """The handler raised SystemExit, KeyboardInterrupt or the like; its attempt has failed, and the worker goes on."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")


class job_threads:  # noqa: N801  # a class is faster than a generator, and each job enters it
    """Let the block's calls in threads use the pool of this kind, and count them for the job."""

    __slots__ = ("_job", "_token")

    def __init__(self, kind: str) -> None:
        self._job = JobThreads(kind)

    def __enter__(self) -> None:
        self._token = _job.set(self._job)

    def __exit__(self, *_: object) -> None:
        _job.reset(self._token)
        self._job.has_ended = True
        if self._job.threads:
            log.warning("job_threads_outlived", threads=self._job.threads)


@contextmanager
def worker_threads() -> Iterator[None]:
    """Let the block's calls in threads use the worker's own pool, which handlers cannot fill."""
    token = _job.set(None)
    try:
        yield
    finally:
        _job.reset(token)


class _Pool:
    """Daemon threads: one that hangs does not keep the process from ending."""

    def __init__(self, name: str, *, size: int) -> None:
        self._name = name
        self._size = size
        self._threads = 0
        self._idle = threading.Semaphore(0)
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def put(self, call: Callable[[], None]) -> None:
        """Run the call in a thread; the caller holds a lock."""
        # Put the call first: a new thread that found none would count as idle although it gets this call.
        self._calls.put(call)
        if not self._idle.acquire(blocking=False) and self._threads < self._size:
            self._start()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"handler-{self._name}", daemon=True).start()
        except RuntimeError:  # the system has no thread left: an existing one runs the call
            if not self._threads:
                self._calls.get_nowait()  # no thread would run it
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
    """The executor of `asyncio.to_thread` and `run_in_executor(None, …)`: a pool for each kind, and one for the worker.

    Python cannot stop the threads of a job that has ended. They use up only the pool of their own kind.
    """

    def __init__(self, kinds: Iterable[str], *, size: int = THREADS_PER_KIND) -> None:
        super().__init__()  # asyncio accepts no other executor; its own threads are never started
        self._size = size
        self._kinds = tuple(kinds)
        self._lock = threading.Lock()
        self._pools: dict[str, _Pool] = {}
        self._running: set[tuple[int, JobThreads]] = set()

    def submit[T](self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run the function in the pool of the job that calls this."""
        future: Future[T] = Future()
        job = _job.get()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                with self._counted(job):
                    result = function(*args, **kwargs)
            except BaseException as error:  # the caller gets it from the future
                future.set_exception(error)
            else:
                future.set_result(result)

        kind = WORKER_POOL if job is None else job.kind
        with self._lock:
            pool = self._pools.get(kind)
            if pool is None:
                pool = self._pools[kind] = _Pool(kind, size=self._size)
            pool.put(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  # inherited
        """Wait for no thread: one that hangs must not keep the process from ending."""

    def outlived(self) -> Counter[str]:
        """Return how many threads still run for jobs that have ended, by kind."""
        with self._lock:
            return Counter(job.kind for _, job in self._running if job.has_ended)

    def collect(self) -> Iterator[Metric]:
        """Yield `app_job_threads_outlived`."""
        outlived = self.outlived()
        gauge = GaugeMetricFamily("app_job_threads_outlived", "Threads of jobs that have ended.", labels=["kind"])
        for kind in self._kinds:
            gauge.add_metric([kind], outlived[kind])
        yield gauge

    @contextmanager
    def _counted(self, job: JobThreads | None) -> Iterator[None]:
        if job is None:
            yield
            return
        entry = (threading.get_ident(), job)
        with self._lock:
            self._running.add(entry)
            job.threads += 1
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(entry)
                job.threads -= 1


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine of a handler's task: SystemExit and KeyboardInterrupt end the task instead of the event loop."""

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
    """Let the running loop use the threads of handlers, and contain the tasks that handlers start."""
    loop = asyncio.get_running_loop()
    threads = HandlerThreads(kinds)
    loop.set_default_executor(threads)
    loop.set_task_factory(_new_task)
    return threads


def _new_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    if _job.get() is not None:
        coroutine = _Contained(coroutine)
    return asyncio.Task(coroutine, loop=loop, **options)
