"""A job that kills its worker is discarded after MAX_CRASHES crashes, and no other job is."""

import asyncio

import pytest

from app_db import Database
from app_db.jobs.claims import MAX_CRASHES
from tests.e2e.chaos.conftest import StartWorker
from tests.e2e.chaos.jobs import LeaseEffect, LeasePoison, Owed, TxEffect, TxPoison
from tests.e2e.chaos.observing import accepted, found_wrong, none_is_open, seen
from tests.e2e.processes import Process
from tests.reads import SITE_OF_JOBS

pytestmark = SITE_OF_JOBS

BYSTANDERS = 20
NEIGHBOURS = 3


@pytest.mark.parametrize("poison", [TxPoison(), LeasePoison()], ids=lambda poison: poison.kind)
async def test_a_job_that_kills_every_worker_is_discarded_while_others_go_on(  # fault 12
    database: Database, start_worker: StartWorker, poison: Owed
) -> None:
    job_id = await accepted(database, poison)
    for number in range(BYSTANDERS):
        await accepted(database, LeaseEffect() if number % 2 else TxEffect())

    await run_supervised(database, start_worker)

    row = await seen(database, "SELECT (state, crashes)::text FROM jobs WHERE id = $1", job_id)
    assert row == f"(discarded,{MAX_CRASHES})"
    assert await found_wrong(database) == {"lost": 1, "discarded": 1}  # its own


# Each job that runs when its worker dies counts a crash. A worker runs only one job with two crashes at a time.
async def test_a_long_job_beside_one_that_kills_every_worker_is_not_discarded_with_it(  # fault 12
    database: Database, start_worker: StartWorker
) -> None:
    for _ in range(NEIGHBOURS):
        await accepted(database, LeaseEffect(seconds=2))
    await accepted(database, LeasePoison())

    await run_supervised(database, start_worker, workers=1)

    assert await found_wrong(database) == {"lost": 1, "discarded": 1}  # the poison's own


async def run_supervised(database: Database, start_worker: StartWorker, *, workers: int = 2) -> None:
    """Start a worker again whenever one dies, as systemd or Kubernetes would, until no job is open."""
    running: list[Process] = []
    async with asyncio.timeout(200):
        while not await none_is_open(database):
            running = [worker for worker in running if worker.is_running()]
            while len(running) < workers:
                running.append(start_worker(ready="", APP_WORKER__LEASE="PT1S"))
            await asyncio.sleep(0.05)
    for worker in running:
        worker.kill()  # the last to be started may not be ready to stop
