"""Keeping the table of jobs small."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from app_db.features.retention.payloads import PruneJobs
from app_db.features.retention.settings import RetentionSettings
from app_db.models import JobState, JobWorker
from app_db.repositories.expiry import BATCH
from app_db.types import new_id, utcnow
from app_worker.context import JobContext
from app_worker.features.retention.handlers import prune_jobs
from app_worker.registry import Handler, handles
from app_worker.resources import supplied

from .conftest import Jobs, MakeRunner, Note

FILL = text("""
    INSERT INTO jobs (id, kind, payload, payload_version, state, finished_at)
    SELECT uuidv7(), 'test.note', '{}', 1, 'completed', now() - CAST(:ended_ago AS interval)
    FROM generate_series(1, :count)
""")


def with_settings(**settings: timedelta) -> Iterator[Handler]:
    """Return the handler with its settings."""
    return supplied([prune_jobs], {RetentionSettings: RetentionSettings(**settings)})


type Fill = Callable[..., Awaitable[None]]


@pytest.fixture
def completed(jobs: Jobs) -> Fill:
    """Add notes that were completed some time ago."""

    async def fill(count: int, *, ago: timedelta) -> None:
        async with jobs.database.sessions.begin() as session:
            await session.execute(FILL, {"count": count, "ended_ago": ago})

    return fill


async def test_pruning_goes_on_until_nothing_is_left(jobs: Jobs, make_runner: MakeRunner, completed: Fill) -> None:
    await completed(BATCH + 1, ago=timedelta(days=2))
    await completed(1, ago=timedelta(hours=1))
    delivery = await jobs.deliver(PruneJobs())

    await make_runner(*with_settings()).run(delivery)

    job = await jobs.get(delivery)
    assert (job.state, job.result, job.progress) == (
        JobState.COMPLETED,
        {"pruned": BATCH + 1, "batches": 0},
        {"pruned": BATCH + 1},
    )
    assert await jobs.scalar("SELECT count(*) FROM jobs WHERE kind = 'test.note'") == 1


async def test_jobs_are_kept_for_as_long_as_the_settings_say(
    jobs: Jobs, make_runner: MakeRunner, completed: Fill
) -> None:
    await completed(1, ago=timedelta(hours=2))
    await completed(1, ago=timedelta(hours=4))

    await make_runner(*with_settings(completed=timedelta(hours=3))).run(await jobs.deliver(PruneJobs()))

    assert await jobs.scalar("SELECT count(*) FROM jobs WHERE kind = 'test.note'") == 1


async def test_completed_jobs_are_kept_for_as_long_as_their_handler_says(
    jobs: Jobs, make_runner: MakeRunner, completed: Fill
) -> None:
    await completed(1, ago=timedelta(days=6))
    await completed(1, ago=timedelta(days=8))

    @handles(Note, keep=timedelta(days=7))
    async def note(job: JobContext, payload: Note) -> None:
        """Do nothing."""

    await make_runner(*with_settings(), note).run(await jobs.deliver(PruneJobs()))

    assert await jobs.scalar("SELECT count(*) FROM jobs WHERE kind = 'test.note'") == 1


async def test_pruning_forgets_workers_that_were_killed(jobs: Jobs, make_runner: MakeRunner) -> None:
    async with jobs.database.sessions.begin() as session:
        beat_at = utcnow() - timedelta(hours=2)
        session.add(JobWorker(id=new_id(), host="box", pid=1, queues=["default"], concurrency=1, beat_at=beat_at))

    await make_runner(*with_settings()).run(await jobs.deliver(PruneJobs()))

    assert await jobs.scalar("SELECT count(*) FROM job_workers") == 0
