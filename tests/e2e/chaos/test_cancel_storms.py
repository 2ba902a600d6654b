"""Several callers cancel the same jobs at once, in every state of a job."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app_db import Database
from app_db.jobs import control
from tests.e2e.chaos.conftest import StartWorker
from tests.e2e.chaos.jobs import Failure, LeaseEffect, TxEffect
from tests.e2e.chaos.observing import accepted, all_jobs_end, has_begun, seen
from tests.e2e.processes import eventually
from tests.reads import SITE_OF_JOBS

pytestmark = SITE_OF_JOBS

EACH = 10
STORM = 3

# A completed job has one effect, a cancelled job has none.
UNDECIDED = """
    SELECT count(*) FROM jobs WHERE kind LIKE 'chaos.%' AND CASE state
        WHEN 'completed' THEN (SELECT count(*) FROM chaos_effects WHERE key = 'job:' || id) <> 1
        WHEN 'cancelled' THEN EXISTS (SELECT FROM chaos_effects WHERE key = 'job:' || id)
        ELSE true END
"""


async def test_each_job_in_a_storm_of_cancellations_ends_in_one_state(  # fault 18
    database: Database, start_worker: StartWorker
) -> None:
    start_worker(APP_WORKER__CONCURRENCY=str(3 * EACH))
    retryable = [await accepted(database, Failure()) for _ in range(EACH)]
    running = [await accepted(database, LeaseEffect(seconds=25)) for _ in range(EACH)]
    await wait_until_they_have_begun(database, running, retryable)
    later = datetime.now(UTC) + timedelta(hours=1)
    waiting = [await accepted(database, TxEffect(), run_at=later) for _ in range(EACH)]
    on_their_way = [await accepted(database, TxEffect(seconds=0.2)) for _ in range(EACH)]

    doomed = [*running, *retryable, *waiting]
    await asyncio.gather(*(cancel_all(database, [*on_their_way, *doomed]) for _ in range(STORM)))

    await all_jobs_end(database)
    assert await seen(database, UNDECIDED) == 0
    assert await seen(database, "SELECT count(*) FROM jobs WHERE id = ANY($1) AND state <> 'cancelled'", doomed) == 0


async def wait_until_they_have_begun(database: Database, running: list[UUID], retryable: list[UUID]) -> None:
    for job_id in running:
        await has_begun(database, job_id)

    async def all_have_failed() -> bool:
        failed = "SELECT count(*) FROM jobs WHERE id = ANY($1) AND state = 'retryable'"
        return bool(await seen(database, failed, retryable) == len(retryable))

    await eventually(all_have_failed, "each has failed once")


async def cancel_all(database: Database, jobs: list[UUID]) -> None:
    for job_id in jobs:
        with suppress(control.JobIsFinal):
            async with database.sessions.begin() as session:
                await control.cancel(session, job_id)
