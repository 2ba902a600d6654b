"""Deleting what is old, by jobs of a queue that each worker serves by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from app_db import Session
from app_db.jobs import crons
from app_db.jobs.payload import JobPayload
from app_db.jobs.retention import QUEUE
from app_db.repositories.expiry import BATCH
from app_worker.context import JobContext
from app_worker.draining import run_due
from app_worker.runner import Runner

log = structlog.get_logger(__name__)

LOOK = timedelta(seconds=10)
"""How often a worker looks for what is to be deleted. It neither listens nor asks Valkey: nobody waits for it."""


async def delete_all(job: JobContext, delete: Callable[[Session], Awaitable[int]]) -> int:
    """Call `delete`, each time in a transaction of its own, until it finds less than a batch; return how many rows.

    What was deleted stays deleted, whatever becomes of the job; its next attempt goes on from there.
    """
    deleted, batch = 0, BATCH
    while batch == BATCH:
        async with job.transaction() as session:
            batch = await delete(session)
        deleted += batch
        await job.set_progress({"pruned": deleted})
    return deleted


async def note_done(job: JobContext, payload: JobPayload) -> None:
    """Put on record that the cron of this job has done its work, for the alert on its age."""
    async with job.transaction() as session:
        await crons.note_done(session, payload.kind)


async def serve_retention(runner: Runner, *, lease: timedelta, look: timedelta = LOOK) -> None:
    """Run what is due in the queue of retention, one job after the other, until cancelled."""
    structlog.contextvars.bind_contextvars(queue=QUEUE)
    while True:
        try:
            async for _ in run_due(runner, queues=(QUEUE,), lease=lease):
                pass
        except Exception as error:  # an outage: what is due still is at the next look
            log.warning("retention_not_served", cause=repr(error))
        await asyncio.sleep(look.total_seconds())
