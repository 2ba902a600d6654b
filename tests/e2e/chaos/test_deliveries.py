"""Deliveries that are lost, come too late, are sent by several relays, or find no room in Valkey."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from app_db import Database, open_database
from app_db.jobs import claims
from app_db.jobs.ledger import Delivery
from app_db.jobs.outbox import enqueue
from app_db.jobs.unique import Unique
from app_runtime.testing.servers import ValkeyServer
from app_runtime.valkey import ValkeySettings
from app_worker.delivery_queue import DeliveryQueue, connect
from app_worker.metrics import Metrics
from app_worker.relay import Relay
from tests.e2e.chaos.conftest import StartWorker
from tests.e2e.chaos.jobs import WRITE_ROW, Departure, LeaseEffect, SteppedDeparture, TxEffect
from tests.e2e.chaos.observing import accepted, all_jobs_end, found_wrong, seen
from tests.e2e.processes import until
from tests.reads import SITE_OF_JOBS

pytestmark = SITE_OF_JOBS

JOBS = 30
RACERS = 50
LEASE = timedelta(seconds=2)
REDELIVERED = "SELECT sum(redeliveries) FROM jobs WHERE attempt = 1"


async def test_jobs_whose_relay_died_before_it_sent_them_run_when_their_lease_ends(  # fault 2
    database: Database, start_worker: StartWorker
) -> None:
    await accept_jobs(database)
    async with database.sessions.begin() as session:
        claimed = await claims.claim(session, queue="default", max_jobs=JOBS, lease=LEASE)

    start_worker()

    await all_jobs_end(database)
    assert len(claimed.deliveries) == JOBS
    assert await found_wrong(database) == {}
    assert await seen(database, REDELIVERED) == JOBS


async def test_each_job_has_one_effect_although_three_relays_believe_to_lead(  # fault 9
    database: Database, start_worker: StartWorker, valkey: ValkeyServer
) -> None:
    start_worker()
    async with delivery_queue_of(valkey) as delivery_queue:
        metrics = Metrics(kinds=(), queues=["default"])
        poll = timedelta(milliseconds=5)
        relays = [Relay(database, delivery_queue, LEASE, lambda: True, metrics, poll=poll) for _ in range(2)]
        tasks = [asyncio.create_task(relay.run()) for relay in relays]
        await accept_jobs(database)

        await all_jobs_end(database)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    assert await found_wrong(database) == {}


async def test_one_of_fifty_transactions_that_accept_the_same_work_leaves_its_effect(  # fault 16
    database: Database, start_worker: StartWorker
) -> None:
    payload = LeaseEffect()
    everybody_is_in = asyncio.Barrier(RACERS)
    slow = {"pool_size": RACERS, "connect_timeout": timedelta(seconds=20), "lock_timeout": timedelta(seconds=20)}

    async def race() -> UUID:
        async with wide.sessions.begin() as session:
            await session.execute(text("SELECT 1"))
            await everybody_is_in.wait()
            job_id = await enqueue(session, payload, unique=Unique())
            await session.execute(text(f"{WRITE_ROW} ON CONFLICT DO NOTHING"), {"row": payload.row})
            return job_id

    async with open_database(database.settings.model_copy(update=slow), name="racers") as wide:
        ids = await asyncio.gather(*(race() for _ in range(RACERS)))
    start_worker()  # after the race: once the job has ended, another transaction would enqueue a second one

    await all_jobs_end(database)
    assert len(set(ids)) == 1
    assert await found_wrong(database) == {}


async def test_what_does_not_fit_into_valkey_waits_and_then_runs_once(  # fault 19
    database: Database, start_worker: StartWorker, valkey: ValkeyServer
) -> None:
    worker = start_worker()
    async with delivery_queue_of(valkey) as delivery_queue:
        await delivery_queue.valkey.config_set("maxmemory", "1")
        await accept_jobs(database)
        await until(lambda: worker.has_logged("claim_failed"), "the worker has noticed")

        await delivery_queue.valkey.config_set("maxmemory", "0")

    await all_jobs_end(database)
    assert await found_wrong(database) == {}


async def test_a_job_whose_worker_died_right_after_its_commit_does_not_run_again(  # fault 20
    database: Database, start_worker: StartWorker, valkey: ValkeyServer
) -> None:
    mortal = start_worker()
    job_id = await accepted(database, Departure())
    await until(lambda: not mortal.is_running(), "it is gone")
    another = start_worker()

    async with delivery_queue_of(valkey) as delivery_queue:
        await delivery_queue.push([Delivery(job_id, 1)])

    await until(lambda: another.has_logged("job_delivery_stale"), "it was dropped")
    await all_jobs_end(database)
    assert await found_wrong(database) == {}


async def test_a_job_whose_worker_died_between_two_steps_goes_on_after_the_first(
    database: Database, start_worker: StartWorker
) -> None:
    mortal = start_worker()
    job_id = await accepted(database, SteppedDeparture())
    await until(lambda: not mortal.is_running(), "it is gone")
    start_worker()

    await all_jobs_end(database)

    assert await found_wrong(database) == {}
    assert await seen(database, "SELECT crashes FROM jobs WHERE id = $1", job_id) == 1


async def accept_jobs(database: Database) -> None:
    for number in range(JOBS):
        await accepted(database, LeaseEffect() if number % 2 else TxEffect())


@asynccontextmanager
async def delivery_queue_of(valkey: ValkeyServer) -> AsyncIterator[DeliveryQueue]:
    """Open the delivery queue that relays push to and executors take from."""
    settings = ValkeySettings.model_validate({"url": valkey.url, "timeout": timedelta(seconds=5)})
    async with connect(settings) as client:
        yield DeliveryQueue(client, "default")
