"""The job that counts."""

from app_db import Database
from app_db.features.figures.models import Span
from app_db.features.figures.payloads import CountMinutes
from app_db.features.figures.repository import MINUTE, FigureRepository
from app_db.jobs.outbox import enqueue
from app_worker.features.figures.crons import count_minutes
from app_worker.testing import DrainJobs


async def test_all_minutes_that_are_over_are_counted_at_once(database: Database, drain_jobs: DrainJobs) -> None:
    """At the first start an hour is counted, in short transactions: the charts do not wait for the next ticks."""
    async with database.unit_of_work() as session:
        await enqueue(session, count_minutes.payload(), queue=count_minutes.queue)

    assert await drain_jobs() == {"completed": 7}

    async with database.unit_of_work(read_only=True) as session:
        assert len(await FigureRepository(session).within(Span.MINUTE, 70 * MINUTE)) >= 60
    assert count_minutes.name == CountMinutes.kind
