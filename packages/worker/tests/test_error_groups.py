"""Errors of a handler that runs tasks in a group: each error in the group counts as it would alone.

modelcontextprotocol/python-sdk #2114: a group wraps the error of a task, even a single one, so that an `except` for its
class does not find it.
"""

import asyncio
from datetime import timedelta

import pytest

from app_db.models import JobState
from app_db.outage import NoAnswer
from app_worker.context import Discard, JobContext, Snooze
from app_worker.registry import Mode, handles

from .conftest import Jobs, MakeRunner, Note

SOON, LATER = timedelta(minutes=1), timedelta(hours=1)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(
    ("errors", "state", "attempt"),
    [
        ([Snooze(LATER)], JobState.SCHEDULED, 0),
        ([Snooze(SOON), Snooze(LATER)], JobState.SCHEDULED, 0),
        ([Discard("no")], JobState.DISCARDED, 1),
        ([Snooze(SOON), ValueError("odd"), Discard("no")], JobState.DISCARDED, 1),
        ([NoAnswer("gone")], JobState.RETRYABLE, 0),
        ([NoAnswer("gone"), Snooze(SOON)], JobState.RETRYABLE, 0),
        ([ValueError("odd"), Snooze(LATER)], JobState.RETRYABLE, 1),
        ([ValueError("odd"), NoAnswer("gone")], JobState.RETRYABLE, 1),
    ],
    ids=repr,
)
async def test_what_tasks_of_a_group_raise_means_what_it_means_by_itself(
    jobs: Jobs, make_runner: MakeRunner, errors: list[Exception], state: JobState, attempt: int, mode: Mode
) -> None:
    @handles(Note, mode=mode)
    async def groups(job: JobContext, payload: Note) -> None:
        async with asyncio.TaskGroup() as outer:
            for error in errors:
                outer.create_task(in_a_group(error))

    delivery = await jobs.deliver()

    await make_runner(groups).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.attempt) == (state, attempt)
    if state is JobState.SCHEDULED:
        assert await jobs.scalar("SELECT claim_at > now() + interval '50 minutes' FROM jobs")
    else:
        (shown,) = await jobs.errors(delivery)
        assert str(errors[0]) in shown.error


async def in_a_group(error: Exception) -> None:
    async with asyncio.TaskGroup() as inner:
        inner.create_task(fail(error))


async def fail(error: Exception) -> None:
    raise error
