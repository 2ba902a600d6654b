"""What a handler cannot do with its steps: each is refused before anything is written."""

from typing import Any

import pytest

from app_worker.context import JobContext
from app_worker.registry import Mode, handles
from app_worker.steps import LONGEST_NAME, MOST_STEPS

from .conftest import Jobs, MakeRunner, Note


async def fails_with(jobs: Jobs, make_runner: MakeRunner, function: Any) -> str:
    delivery = await jobs.deliver()
    await make_runner(handles(Note, mode=Mode.LEASE)(function)).run(delivery)
    (error,) = await jobs.errors(delivery)
    return error.error


async def test_each_step_has_a_name_of_its_own(jobs: Jobs, make_runner: MakeRunner) -> None:
    async def repeats(job: JobContext, payload: Note) -> None:
        for _ in range(2):
            async with job.step("charge"):
                pass

    assert "the step 'charge' has been asked for" in await fails_with(jobs, make_runner, repeats)


@pytest.mark.parametrize("name", ["", "x" * (LONGEST_NAME + 1)])
async def test_a_step_has_a_name(jobs: Jobs, make_runner: MakeRunner, name: str) -> None:
    async def misnames(job: JobContext, payload: Note) -> None:
        async with job.step(name):
            pass

    assert "1 to 100 characters" in await fails_with(jobs, make_runner, misnames)


async def test_a_step_within_a_step_is_refused(jobs: Jobs, make_runner: MakeRunner) -> None:
    async def nests(job: JobContext, payload: Note) -> None:
        async with job.step("outer"), job.step("inner"):
            pass

    assert "'outer' was not committed" in await fails_with(jobs, make_runner, nests)


async def test_the_exception_of_a_step_ends_the_attempt(jobs: Jobs, make_runner: MakeRunner) -> None:
    async def goes_on(job: JobContext, payload: Note) -> None:
        try:
            async with job.step("charge"):
                raise OSError
        except OSError:
            async with job.step("ship"):
                pass

    assert "the exception of a step ends the attempt" in await fails_with(jobs, make_runner, goes_on)


async def test_more_steps_than_a_job_may_have_are_refused(jobs: Jobs, make_runner: MakeRunner) -> None:
    async def counts(job: JobContext, payload: Note) -> None:
        for number in range(MOST_STEPS + 1):
            async with job.step(str(number)):
                pass

    assert "move a cursor" in await fails_with(jobs, make_runner, counts)


async def test_a_result_that_cannot_be_kept_fails_the_step(jobs: Jobs, make_runner: MakeRunner) -> None:
    async def returns_much(job: JobContext, payload: Note) -> None:
        for name in ("first", "second"):
            async with job.step(name) as step:
                step.result = "x" * 150_000

    assert "256 KiB" in await fails_with(jobs, make_runner, returns_much)


async def test_a_cursor_that_cannot_be_kept_is_refused(jobs: Jobs, make_runner: MakeRunner) -> None:
    async def moves_far(job: JobContext, payload: Note) -> None:
        async with job.transaction(cursor=float("nan")):
            pass

    assert "not JSON compliant" in await fails_with(jobs, make_runner, moves_far)
