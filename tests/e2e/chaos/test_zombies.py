"""A worker that lost its job without knowing tries to write, and the fence stops it."""

import signal
from pathlib import Path

from app_db import Database
from tests.e2e.chaos.conftest import StartWorker
from tests.e2e.chaos.jobs import Straggler
from tests.e2e.chaos.observing import accepted, all_jobs_end, found_wrong, has_begun, seen
from tests.e2e.processes import Process, until
from tests.reads import SITE_OF_JOBS

pytestmark = SITE_OF_JOBS


async def test_a_worker_that_was_frozen_for_longer_than_its_lease_cannot_write(  # fault 5
    database: Database, start_worker: StartWorker, tmp_path: Path
) -> None:
    zombie = await zombie_in_a_job(database, start_worker, held_until=tmp_path / "go")

    (tmp_path / "go").touch()
    zombie.signal(signal.SIGCONT)

    await until(lambda: zombie.has_logged("straggler_fenced"), "the zombie has tried to write")
    assert await found_wrong(database) == {}


async def test_control_a_zombie_that_writes_past_the_fence_would_be_seen(
    database: Database, start_worker: StartWorker, tmp_path: Path
) -> None:
    zombie = await zombie_in_a_job(database, start_worker, held_until=tmp_path / "go", is_naive=True)

    (tmp_path / "go").touch()
    zombie.signal(signal.SIGCONT)

    await until(lambda: zombie.has_logged("straggler_wrote"), "the zombie has written")
    assert await found_wrong(database) == {"duplicated": 1}


async def test_a_job_that_blocked_its_worker_for_longer_than_its_lease_cannot_write(  # fault 11
    database: Database, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker()
    job_id = await accepted(database, Straggler(held_until=tmp_path / "go", blocks=True))
    await has_begun(database, job_id)
    start_worker()
    await elect_another_leader(database)
    await all_jobs_end(database)

    (tmp_path / "go").touch()

    await until(lambda: worker.has_logged("straggler_fenced"), "the blocked run has tried to write")
    assert await found_wrong(database) == {}


async def zombie_in_a_job(
    database: Database, start_worker: StartWorker, *, held_until: Path, is_naive: bool = False
) -> Process:
    """Return a worker that is frozen between the start of a job and its effect; another one has completed the job."""
    zombie = start_worker()
    job_id = await accepted(database, Straggler(held_until=held_until, is_naive=is_naive))
    await has_begun(database, job_id)
    zombie.signal(signal.SIGSTOP)
    start_worker()
    await elect_another_leader(database)
    await all_jobs_end(database)
    return zombie


async def elect_another_leader(database: Database) -> None:
    """End the leader's session now; Postgres ends it by itself after 10 s without a sign of life."""
    leads = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'worker-leader'"
    await seen(database, leads)
