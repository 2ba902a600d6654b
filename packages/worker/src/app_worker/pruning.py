"""Pruning: deletes old rows by jobs of the retention queue, which each worker serves beside its own queues."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any

import structlog

from app_db import Session
from app_db.jobs import crons
from app_db.jobs.bulk import QUEUE as BULK
from app_db.jobs.payload import JobPayload
from app_db.jobs.retention import QUEUE
from app_db.repositories.expiry import BATCH
from app_worker.context import JobContext
from app_worker.draining import run_due
from app_worker.runner import Runner

log = structlog.get_logger(__name__)

POLL = timedelta(seconds=10)
"""How often a worker polls the retention queue. It uses no notifications and no Valkey, because nothing is urgent."""
BULK_POLL = timedelta(seconds=2)
"""How often it polls the queue of `app_db.jobs.bulk`: somebody looks at a page until it begins."""


async def delete_all(job: JobContext, delete: Callable[[Session], Awaitable[int]]) -> int:
    """Call `delete` until it deletes less than a batch, each time in its own transaction; return how many rows.

    Deleted rows stay deleted if the job fails; its next attempt continues from there.
    """
    deleted, batch = 0, BATCH
    while batch == BATCH:
        async with job.transaction() as session:
            batch = await delete(session)
        deleted += batch
        await job.set_progress({"pruned": deleted})
    return deleted


async def note_done(
    job: JobContext, payload: JobPayload, *, applied: Mapping[str, float | bool | None] | None = None
) -> None:
    """Record that the cron of this job has done its work, for the alert on its age, and with which settings."""
    async with job.transaction() as session:
        await crons.note_done(session, payload.kind, applied=applied)


async def serve_retention(runner: Runner, *, lease: timedelta, poll: timedelta = POLL, queue: str = QUEUE) -> None:
    """Run the due jobs of the retention queue, or of another one like it, one after the other, until cancelled."""
    structlog.contextvars.bind_contextvars(queue=queue)
    while True:
        try:
            async for _ in run_due(runner, queues=(queue,), lease=lease):
                pass
        except Exception as error:  # an outage of Postgres: the next poll finds the same jobs
            log.warning("queue_not_served", cause=repr(error))
        await asyncio.sleep(poll.total_seconds())


def serve_beside(runner: Runner, *, lease: timedelta) -> list[Coroutine[Any, Any, None]]:
    """Return the loops over the queues that every worker serves beside its own."""
    bulk = serve_retention(runner, lease=lease, poll=BULK_POLL, queue=BULK)
    return [serve_retention(runner, lease=lease), bulk]
