"""Every value in the ledger can be read again: a value that could not be shown is a failed attempt that says so.

Pydantic writes up to 255 levels within each other, Python knows no year after 9999: one such row made every list fail
that had it.
"""

from datetime import timedelta
from typing import Any

import pytest

from app_db.models import JobState
from app_worker.context import JobContext, Snooze
from app_worker.registry import Mode, handles

from .conftest import Jobs, MakeRunner, Note


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    return value


@pytest.mark.parametrize("mode", Mode)
async def test_a_result_that_could_not_be_shown_is_a_failed_attempt(
    jobs: Jobs, make_runner: MakeRunner, mode: Mode
) -> None:
    @handles(Note, mode=mode)
    async def returns_it(job: JobContext, payload: Note) -> Any:
        return nested(101)

    delivery = await jobs.deliver()

    await make_runner(returns_it).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.RETRYABLE
    (error,) = await jobs.errors(delivery)
    assert "more than 100 levels" in error.error


async def test_the_deepest_result_is_kept(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def returns_it(job: JobContext, payload: Note) -> Any:
        return nested(100)

    delivery = await jobs.deliver()

    await make_runner(returns_it).run(delivery)

    assert (await jobs.get(delivery)).result == nested(100)


async def test_a_progress_that_could_not_be_shown_is_refused(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note, mode=Mode.LEASE)
    async def shows_it(job: JobContext, payload: Note) -> None:
        await job.set_progress(nested(101))

    delivery = await jobs.deliver()

    await make_runner(shows_it).run(delivery)

    assert ((await jobs.get(delivery)).state, (await jobs.get(delivery)).progress) == (JobState.RETRYABLE, None)


async def test_a_job_cannot_be_put_off_to_a_date_that_nothing_can_show(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def waits_for_ever(job: JobContext, payload: Note) -> None:
        raise Snooze(timedelta(days=3_000_000))

    delivery = await jobs.deliver()

    await make_runner(waits_for_ever).run(delivery)

    assert (await jobs.get(delivery)).state is JobState.RETRYABLE
    (error,) = await jobs.errors(delivery)
    assert "cannot be put off by 3000000 days" in error.error


async def test_the_longest_delay_is_a_date(jobs: Jobs, make_runner: MakeRunner) -> None:
    @handles(Note)
    async def waits_long(job: JobContext, payload: Note) -> None:
        raise Snooze(timedelta(days=36_500))

    delivery = await jobs.deliver()

    await make_runner(waits_long).run(delivery)

    job = await jobs.get(delivery)
    assert job.claim_at is not None
    assert job.claim_at.year > 2100
