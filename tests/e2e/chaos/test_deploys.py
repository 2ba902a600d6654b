"""Workers are replaced while jobs run."""

import time

from app_db import Database
from tests.e2e.chaos.conftest import StartWorker
from tests.e2e.chaos.jobs import LeaseEffect, TxEffect
from tests.e2e.chaos.observing import accepted, all_jobs_end, found_wrong, has_begun, seen
from tests.reads import SITE_OF_JOBS

pytestmark = SITE_OF_JOBS

DEPLOYS = 10
SECONDS = 3
"""How long a job takes: longer than the test needs to see that it runs and to stop its worker."""
GRACE = 0
LONGEST_EXIT = GRACE + 2 + 8
"""Seconds from SIGTERM to the end of a worker whose jobs do not end. `GRACE + 2` is promised, which bench/README.md
measures; the rest is for a busy machine, on which the next worker starts at the same time."""


async def test_ten_deploys_during_a_job_cost_it_no_attempt(database: Database, start_worker: StartWorker) -> None:  # 13
    jobs = [await accepted(database, payload) for payload in (TxEffect(seconds=SECONDS), LeaseEffect(seconds=SECONDS))]
    worker = start_worker(APP_WORKER__GRACE=str(GRACE))
    exits = []

    for deploy in range(DEPLOYS):
        for job_id in jobs:
            await has_begun(database, job_id, times=deploy + 1)
        following = start_worker(ready="", APP_WORKER__GRACE=str(GRACE))
        told = time.monotonic()
        assert worker.stop() == 0, worker.output
        exits.append(time.monotonic() - told)
        worker = following

    await all_jobs_end(database)
    assert await found_wrong(database) == {}
    assert max(exits) < LONGEST_EXIT
    assert await seen(database, "SELECT array_agg((attempt, crashes)::text) FROM jobs WHERE id = ANY($1)", jobs) == [
        "(1,0)",
        "(1,0)",
    ]
