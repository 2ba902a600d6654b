"""Draining: runs due jobs without an executor, one after the other, in this process. Needs no Valkey."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from app_db.jobs import admission, claims
from app_db.jobs.ledger import Delivery
from app_db.models import JobState
from app_db.repositories.jobs import JobRepository
from app_worker.limiting import declare
from app_worker.runner import Runner


async def run_due(runner: Runner, *, queues: Sequence[str], lease: timedelta) -> AsyncIterator[Delivery]:
    """Run the due jobs of `queues` until none is due, the first queue first; yield each delivery when it has ended.

    Jobs that are enqueued meanwhile run too. Workers may run at the same time, because each job is claimed once.

    Raises:
        DatabaseUnavailable: when Postgres is away.
    """
    while (delivery := await _next(runner, queues, lease)) is not None:
        await _run(runner, delivery)
        yield delivery


async def drain(runner: Runner, *, queues: Sequence[str], lease: timedelta) -> Counter[JobState]:
    """Run due jobs as `run_due` does; return how many of them are in each state now."""
    states: Counter[JobState] = Counter()
    await declare(runner)
    may_be_due = True
    while may_be_due:
        may_be_due = False
        async for delivery in run_due(runner, queues=queues, lease=lease):
            async with runner.database.unit_of_work(read_only=True) as session:
                job = await JobRepository(session).get(delivery.id)
            if job is not None:  # the job may have been deleted
                states[job.state] += 1
        may_be_due = await runner.batches.settle_all()  # guard: test_a_drain_runs_the_last_job_of_a_batch
    return states


async def _run(runner: Runner, delivery: Delivery) -> None:
    """Run a delivery in its own task, which a heartbeat may cancel; if the drain is cancelled, give the job back."""
    running = asyncio.create_task(runner.run(delivery))
    try:
        await asyncio.wait([running])
    except asyncio.CancelledError:
        runner.stop()
        running.cancel()  # guard: test_a_drain_that_is_cancelled_gives_its_job_back_first
        await asyncio.wait([running])
        raise
    if not running.cancelled():
        running.result()


async def _next(runner: Runner, queues: Sequence[str], lease: timedelta) -> Delivery | None:
    for queue in queues:
        while True:
            async with runner.database.unit_of_work() as session:
                claim = await claims.claim(session, queue=queue, max_jobs=1, lease=lease)
                if claim.has_limit:  # guard: test_draining_runs_what_the_limit_of_its_queue_allows
                    claim = await claims.claim_within_limit(session, queue=queue, max_jobs=1, lease=lease)
            if claim.deliveries:
                return claim.deliveries[0]
            if claim.may_admit and await _admit(runner, queue):
                continue  # guard: test_a_drain_keeps_to_the_limits_of_keys_and_runs_what_they_allow
            if not claim.redelivered + claim.crashed:
                break  # else the claim itself ended a job: cancelled, or discarded after too many crashes
    return None


async def _admit(runner: Runner, queue: str) -> int:
    async with runner.database.unit_of_work() as session:
        return await admission.admit(session, queue=queue)
