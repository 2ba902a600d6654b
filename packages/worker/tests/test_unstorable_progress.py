"""Progress that Postgres cannot hold costs an attempt, and never the record of it."""

from typing import Any

import pytest

from app_db.models import JobState
from app_worker.context import JobContext
from app_worker.registry import Mode, handles

from .conftest import Jobs, MakeRunner, Note


@pytest.mark.parametrize("progress", ["a \0", "\ud800", {"\0": 1}, object(), float("nan")])
async def test_progress_that_cannot_be_kept_is_a_failed_attempt(
    jobs: Jobs, make_runner: MakeRunner, progress: Any
) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def shows_it(job: JobContext, payload: Note) -> None:
        await job.set_progress(progress)

    delivery = await jobs.deliver()

    await make_runner(shows_it).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt, job.progress) == (JobState.RETRYABLE, 1, None)
    assert len(await jobs.errors(delivery)) == 1


async def test_an_error_is_on_record_although_the_last_progress_cannot_be(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def fails(job: JobContext, payload: Note) -> None:
        await job.set_progress("half")
        await job.set_progress("a \0")  # too soon to be written by itself
        raise RuntimeError("of the handler")

    delivery = await jobs.deliver()

    await make_runner(fails).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.progress) == (JobState.RETRYABLE, "half")
    (error,) = await jobs.errors(delivery)
    assert error.error == "RuntimeError: of the handler"
