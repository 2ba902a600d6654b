"""No error while an outcome is decided or recorded loses the attempt, and the recorded error has a limited size."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, cast

import pytest
import structlog
from structlog.testing import capture_logs

from app_db.jobs.ledger import Delivery, StartedJob
from app_db.models import JobState
from app_worker.context import Discard, JobContext
from app_worker.history import LONGEST_ERROR, LONGEST_PROGRESS, LONGEST_TRACE
from app_worker.metrics import Metrics
from app_worker.registry import Mode, handles

from .conftest import Jobs, MakeRunner, Note

DELAYS = [timedelta(seconds=1)]


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


def exits(attempt: int) -> timedelta:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("backoff", "cause"),
    [
        (lambda n: DELAYS[n], "IndexError"),
        (lambda n: timedelta(seconds=2.0 ** (n * 2000)), "OverflowError"),
        (lambda n: 60, "it returned 60, and not a timedelta from 0 to 36500 days"),
        (lambda n: None, "it returned None"),
        (lambda n: timedelta(seconds=-1), "it returned datetime.timedelta(days=-1"),
        (lambda n: timedelta.max, "it returned datetime.timedelta(days=999999999"),
        (lambda n: Unshowable(), "it returned <Unshowable, whose repr fails>"),
        (exits, "SystemExit"),
    ],
)
@pytest.mark.parametrize("mode", Mode)
async def test_a_back_off_that_fails_does_not_lose_the_attempt(
    jobs: Jobs, make_runner: MakeRunner, mode: Mode, backoff: Callable[[int], Any], cause: str
) -> None:
    @handles(Note, mode=mode, backoff=backoff)
    async def fails(job: JobContext, payload: Note) -> None:
        raise RuntimeError("its own error")

    delivery = await jobs.deliver()
    runner = make_runner(fails)

    with capture_logs() as logs:
        await runner.run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.RETRYABLE, 1)
    assert await jobs.scalar("SELECT claim_at BETWEEN now() + interval '10 s' AND now() + interval '20 s' FROM jobs")
    (error,) = await jobs.errors(delivery)
    assert error.error.startswith("RuntimeError: its own error\nThe back-off failed too, so the default one was used:")
    assert cause in error.error
    assert [line["event"] for line in logs] == ["backoff_failed", "job_ended"]
    assert runner.metrics.registry.get_sample_value(
        "app_jobs_finished_total", {"kind": "test.note", "outcome": "failed"}
    )


class Broken(Metrics):
    """Metrics that fail at each call."""

    def started(self, kind: str) -> None:
        raise RuntimeError("no figures")

    def finished(self, kind: str, outcome: str, seconds: float) -> None:
        raise RuntimeError("no figures")


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("fails", [True, False])
async def test_metrics_and_traces_and_a_log_that_fail_do_not_lose_the_attempt(
    jobs: Jobs, make_runner: MakeRunner, mode: Mode, *, fails: bool
) -> None:
    @handles(Note, mode=mode)
    async def runs(job: JobContext, payload: Note) -> None:
        if fails:
            raise RuntimeError("its own error")

    def trace(delivery: Delivery, job: StartedJob) -> AbstractContextManager[Any]:
        raise RuntimeError("no traces")

    def refuse(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        raise RuntimeError("no log")

    delivery = await jobs.deliver()
    runner = make_runner(runs)
    runner.metrics = runner.recorder.metrics = Broken(kinds=["test.note"], queues=[])
    runner.trace = trace
    before = structlog.get_config()["processors"]

    structlog.configure(processors=[refuse])
    try:
        await runner.run(delivery)
    finally:
        structlog.configure(processors=before)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (JobState.RETRYABLE if fails else JobState.COMPLETED, 1)
    assert [error.error for error in await jobs.errors(delivery)] == ["RuntimeError: its own error"] * fails


def fail_to_trace(outcome: str, error: BaseException | None) -> None:
    raise RuntimeError("no traces")


async def test_a_trace_that_cannot_be_told_the_outcome_does_not_lose_it(jobs: Jobs, make_runner: MakeRunner) -> None:
    class Tracing(AbstractContextManager[Any]):
        def __enter__(self) -> Any:
            return fail_to_trace

        def __exit__(self, *_: object) -> None: ...

    @handles(Note)
    async def runs(job: JobContext, payload: Note) -> None: ...

    delivery = await jobs.deliver()
    runner = make_runner(runs)
    runner.trace = lambda delivery, job: Tracing()

    with capture_logs() as logs:
        await runner.run(delivery)

    assert (await jobs.get(delivery)).state is JobState.COMPLETED
    assert "outcome_not_traced" in [line["event"] for line in logs]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Hostile(Exception):
    @property
    def __notes__(self) -> Any:  # type: ignore[override]  # that is the fault
        raise KeyError


class Odd(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        raise KeyError


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (Unprintable(), "<exception str() failed>"),
        (Hostile(), "Hostile"),
        (Odd("odd", [ValueError()]), "Odd, which cannot be shown: KeyError"),
    ],
    ids=["str", "notes", "group"],
)
async def test_an_error_that_cannot_be_shown_is_named(
    jobs: Jobs, make_runner: MakeRunner, error: Exception, kept: str
) -> None:
    @handles(Note)
    async def fails(job: JobContext, payload: Note) -> None:
        raise error

    delivery = await jobs.deliver()

    await make_runner(fails).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.RETRYABLE
    (recorded,) = await jobs.errors(delivery)
    assert kept in recorded.error


@pytest.mark.parametrize("cause", [ValueError, Discard])
async def test_an_error_has_a_size(jobs: Jobs, make_runner: MakeRunner, cause: type[Exception]) -> None:
    """Some drivers put the whole answer, and some clients the whole body, into their exceptions."""

    @handles(Note)
    async def fails(job: JobContext, payload: Note) -> None:
        try:
            raise KeyError("y" * 1_000_000)
        except KeyError as error:
            raise cause("begin" + "x" * 1_000_000 + "end") from error

    delivery = await jobs.deliver()

    await make_runner(fails).run(delivery)

    (recorded,) = await jobs.errors(delivery)
    assert len(recorded.error) < LONGEST_ERROR + 100
    assert recorded.trace is not None
    assert len(recorded.trace) < LONGEST_TRACE + 100
    assert "beginxxx" in recorded.error
    assert "characters are missing … xxx" in recorded.error
    assert recorded.error.endswith("xxxend")
    assert recorded.trace.endswith("xxxend")
    assert "in fails" in recorded.trace


@pytest.mark.parametrize("at_the_end", [True, False])
@pytest.mark.parametrize("progress", ["z" * 100_000, {"lines": ["z" * 1000] * 100}], ids=["text", "object"])
async def test_a_progress_has_a_size(jobs: Jobs, make_runner: MakeRunner, progress: Any, *, at_the_end: bool) -> None:
    seen = []

    @handles(Note, mode=Mode.LEASE)
    async def shows(job: JobContext, payload: Note) -> None:
        await job.set_progress(progress)
        seen.append((await jobs.get(job.id)).progress)
        if at_the_end:
            async with job.last_transaction():
                pass

    delivery = await jobs.deliver()

    await make_runner(shows).run(delivery)

    job = await jobs.get(delivery)
    assert seen == [job.progress]
    assert len(json.dumps(job.progress, ensure_ascii=False)) < LONGEST_PROGRESS + 100
    assert "characters are missing" in cast("str", job.progress)


@pytest.mark.parametrize("progress", [None, 3, 0.5, True, "half", {"done": 1}])
async def test_a_progress_that_is_small_is_kept_as_it_is(jobs: Jobs, make_runner: MakeRunner, progress: Any) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def shows(job: JobContext, payload: Note) -> None:
        await job.set_progress(progress)

    delivery = await jobs.deliver()

    await make_runner(shows).run(delivery)

    assert (await jobs.get(delivery)).progress == progress
