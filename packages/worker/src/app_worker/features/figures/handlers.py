"""Counts what ended in the minutes that are over."""

from datetime import timedelta

from app_db.features.figures.payloads import CountMinutes
from app_db.features.figures.repository import FigureRepository
from app_db.jobs import crons
from app_worker.context import JobContext
from app_worker.registry import handles


@handles(CountMinutes, keep=timedelta(hours=1))
async def count_minutes(job: JobContext, payload: CountMinutes) -> dict[str, int]:
    """Count them in the transaction that completes the job: both or neither."""
    counted = await FigureRepository(job.session).count()
    await crons.note_done(job.session, payload.kind)
    return {"minutes": counted}
