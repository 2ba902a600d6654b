"""Threads of handlers: Python cannot stop one, so a job that is over may leave some behind, which keep nobody waiting.

Seen as a report about a worker whose mails waited for 30 s: eight jobs with a limit of a second in
`asyncio.to_thread(sleep, 45)` had taken all threads that `getfqdn` of the mail client needed.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app_auth.one_time import OneTimeTokens
from app_db.jobs.payload import JobPayload
from app_db.models import JobState
from app_worker.context import JobContext
from app_worker.mail import Mails, MemoryMailer
from app_worker.registry import Mode, handles
from app_worker.testing import one_time_settings
from app_worker.threads import THREADS_PER_KIND, HandlerExited, HandlerThreads, job_threads, use_threads

from .conftest import Jobs, MakeRunner, Note, until


class Other(JobPayload):
    """A job of another kind."""

    kind = "test.other"


@pytest_asyncio.fixture(loop_scope="session")
async def threads() -> AsyncIterator[HandlerThreads]:
    """The threads of a worker's loop, for one test."""
    loop = asyncio.get_running_loop()
    threads = use_threads(["test.note", "test.other"])
    yield threads
    loop.set_task_factory(None)
    use_threads([])
    loop.set_task_factory(None)


def figure(threads: HandlerThreads, kind: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(threads)
    return registry.get_sample_value("app_job_threads_outlived", {"kind": kind})


async def test_a_job_of_another_kind_has_its_threads_whatever_others_leave_behind(
    jobs: Jobs, make_runner: MakeRunner, threads: HandlerThreads
) -> None:
    release, running = threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        running.release()
        release.wait(60)

    @handles(Note, mode=Mode.LEASE, timeout=timedelta(seconds=60))
    async def leaves_all_behind(job: JobContext, payload: Note) -> None:
        hung = [asyncio.create_task(asyncio.to_thread(hang)) for _ in range(THREADS_PER_KIND)]
        for _ in hung:
            await until(lambda: running.acquire(blocking=False))
        raise RuntimeError

    @handles(Note, mode=Mode.LEASE, timeout=timedelta(seconds=0.3))
    async def waits_in_vain(job: JobContext, payload: Note) -> None:
        await asyncio.to_thread(hang)

    @handles(Other, mode=Mode.LEASE, timeout=timedelta(seconds=20))
    async def is_quick(job: JobContext, payload: Other) -> str:
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    runner = make_runner(waits_in_vain, is_quick)
    hung, again, other = await jobs.deliver(), await jobs.deliver(), await jobs.deliver(Other())
    try:
        with capture_logs() as logs:
            await make_runner(leaves_all_behind).run(hung)
        await runner.run(again)
        await runner.run(other)

        assert {"event": "job_threads_outlived", "threads": THREADS_PER_KIND, "log_level": "warning"} in logs
        assert (await jobs.get(hung)).state is JobState.RETRYABLE
        assert (await jobs.get(again)).state is JobState.RETRYABLE
        assert not running.acquire(blocking=False)
        job = await jobs.get(other)
        assert (job.state, job.result) == (JobState.COMPLETED, "handler-test.other")
        assert threads.outlived() == {"test.note": THREADS_PER_KIND}
        assert (figure(threads, "test.note"), figure(threads, "test.other")) == (THREADS_PER_KIND, 0)
    finally:
        release.set()
    await until(lambda: not threads.outlived())
    assert figure(threads, "test.note") == 0


async def test_a_mail_waits_for_no_thread_of_its_own_kind(threads: HandlerThreads) -> None:
    release = threading.Event()

    class Looking(MemoryMailer):
        async def send(self, message: EmailMessage) -> None:
            await asyncio.to_thread(self.sent.append, message)

    mailer = Looking()
    mails = Mails(mailer, "Groundwork <hello@groundwork.test>", "https://groundwork.test/",
                  OneTimeTokens(one_time_settings()))  # fmt: skip
    with job_threads("test.note"):
        hung = [asyncio.create_task(asyncio.to_thread(release.wait, 60)) for _ in range(THREADS_PER_KIND)]
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(45):
                await mails.send("welcome", to="ada@example.test", message_id="1", email="ada@example.test")
        finally:
            release.set()
            await asyncio.gather(*hung)

    assert len(mailer.sent) == 1


async def test_threads_are_used_again_and_give_back_what_was_raised(threads: HandlerThreads) -> None:
    def fail() -> None:
        raise SystemExit(3)

    with job_threads("test.note"):
        names = {await asyncio.to_thread(threading.get_ident) for _ in range(10)}
        with pytest.raises(SystemExit):
            await asyncio.to_thread(fail)

    assert len(names) < 10
    assert threads.outlived() == {}


async def test_a_call_that_nobody_waits_for_any_more_is_not_made(threads: HandlerThreads) -> None:
    release, called = threading.Event(), threading.Event()
    with job_threads("test.note"):
        hung = [asyncio.create_task(asyncio.to_thread(release.wait, 60)) for _ in range(THREADS_PER_KIND)]
        await asyncio.sleep(0)
        late = asyncio.create_task(asyncio.to_thread(called.set))
        await asyncio.sleep(0.05)
        late.cancel()
        await asyncio.wait([late])
        release.set()
        await asyncio.gather(*hung)
        await asyncio.to_thread(release.is_set)

    assert not called.is_set()


async def test_shutting_down_waits_for_no_thread(threads: HandlerThreads) -> None:
    release = threading.Event()
    hung = asyncio.create_task(asyncio.to_thread(release.wait, 60))
    await asyncio.sleep(0.05)

    async with asyncio.timeout(45):
        await asyncio.to_thread(threads.shutdown)

    assert not hung.done()
    release.set()
    await hung


async def test_a_task_of_a_handler_that_exits_when_it_is_cancelled_ends_nothing_else(threads: HandlerThreads) -> None:
    async def exits_at_its_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise SystemExit(4)

    async def returns() -> int:
        return 3

    with job_threads("test.note"):
        task = asyncio.get_running_loop().create_task(exits_at_its_end())
        other = asyncio.get_running_loop().create_task(returns())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(HandlerExited, match="SystemExit: 4"):
        await task
    wrapper: Any = other.get_coro()
    assert await type(wrapper)(returns()) == await other == 3
    wrapper.close()


def test_a_thread_that_the_system_does_not_give_is_none_of_the_pool() -> None:
    """python/cpython PR #17615: where no thread could be started, that call waited for ever, and so did later ones."""
    threads = HandlerThreads([], size=2)

    with no_more_threads():
        for _ in range(3):
            with pytest.raises(RuntimeError, match="new thread"):
                threads.submit(int)

    assert threads.submit(lambda: "done").result(timeout=10) == "done"


def test_a_call_for_which_there_is_no_new_thread_waits_for_one_that_is_there() -> None:
    threads = HandlerThreads([], size=2)
    release = threading.Event()
    first = threads.submit(release.wait, 60)

    with no_more_threads():
        second = threads.submit(lambda: "done")
    release.set()

    assert first.result(timeout=10)
    assert second.result(timeout=10) == "done"


def test_a_thread_counts_as_idle_once_however_many_calls_it_has_made() -> None:
    """Else a call waits behind one that hangs although another thread may be started."""
    threads = HandlerThreads([], size=2)
    release, hung = threading.Event(), threading.Event()
    first = threads.submit(release.wait, 60)
    with no_more_threads():
        waiting = [threads.submit(int) for _ in range(3)]
    release.set()
    assert first.result(timeout=10)
    assert [call.result(timeout=10) for call in waiting] == [0, 0, 0]

    hanging = threads.submit(hung.wait, 60)
    try:
        assert threads.submit(lambda: "done").result(timeout=10) == "done"
    finally:
        hung.set()
    assert hanging.result(timeout=10)


@contextmanager
def no_more_threads() -> Iterator[None]:
    """Let the system refuse threads, as at the limit of a container: none has room for such a stack."""
    before = threading.stack_size(2**46)
    try:
        yield
    finally:
        threading.stack_size(before)
