"""Keeping the table of jobs small."""

from datetime import timedelta

import structlog

from app_db.jobs.catalog import PruneJobs
from app_db.jobs.retention import forget_workers, prune
from app_worker.context import JobContext
from app_worker.pruning import delete_all, note_done
from app_worker.registry import Mode, handles

log = structlog.get_logger(__name__)


@handles(PruneJobs, mode=Mode.LEASE, timeout=timedelta(minutes=10))
async def prune_jobs(job: JobContext, payload: PruneJobs) -> dict[str, int]:
    """Delete what ended long ago, in batches that are committed each for itself; the result says how many jobs.

    How long is `app_db.jobs.retention.RETENTION`, and for completed jobs of a kind `@handles(…, keep=…)`.
    """
    async with job.transaction() as session:
        await forget_workers(session)
    pruned = await delete_all(job, lambda session: prune(session, kinds=job.retention))
    await note_done(job, payload)
    log.info("jobs_pruned", count=pruned)
    return {"pruned": pruned}
