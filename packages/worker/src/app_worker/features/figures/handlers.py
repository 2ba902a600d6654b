"""Counts what ended in the minutes that are over."""

from datetime import timedelta

from app_db.features.figures.payloads import CountMinutes
from app_db.features.figures.repository import AT_ONCE, FigureRepository
from app_db.jobs import crons
from app_db.jobs.outbox import enqueue
from app_db.jobs.retention import QUEUE
from app_worker.context import JobContext
from app_worker.registry import handles


@handles(CountMinutes, keep=timedelta(hours=1))
async def count_minutes(job: JobContext, payload: CountMinutes) -> dict[str, int]:
    """Count them in the transaction that completes the job: both or neither. If there are more, another job goes on."""
    counted = await FigureRepository(job.session).count()
    if counted == AT_ONCE:  # guard: test_all_minutes_that_are_over_are_counted_at_once
        await enqueue(job.session, payload, queue=QUEUE)
    await crons.note_done(job.session, payload.kind)
    return {"minutes": counted}
