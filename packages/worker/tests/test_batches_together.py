"""Workers that add up the same batch at the same time."""

import asyncio
from uuid import UUID

from sqlalchemy import text

from app_db import Database
from app_db.jobs.batch_ends import settle
from app_db.jobs.batches import enqueue_batch

from .test_batches import batch_of, notes


async def test_two_workers_that_add_up_a_batch_at_once_lose_no_end(database: Database) -> None:
    async with database.unit_of_work() as session:
        batch_id = await enqueue_batch(session, notes(1, 2))
        ids = (await session.scalars(text("SELECT id FROM jobs ORDER BY id"))).all()

    async def end(job_id: UUID) -> None:
        async with database.unit_of_work() as session:
            ended = "UPDATE jobs SET state = 'completed', claim_at = NULL, finished_at = now() WHERE id = :id"
            await session.execute(text(ended), {"id": job_id})

    async def settle_other() -> None:
        async with database.unit_of_work() as session:
            await settle(session, [batch_id])

    await end(ids[0])
    async with database.sessions() as session:
        await settle(session, [batch_id])
        await end(ids[1])
        other = asyncio.create_task(settle_other())
        await asyncio.sleep(0.3)  # it waits for the row of the batch
        assert not other.done()
        await session.commit()
    await other

    assert (await batch_of(database, batch_id)).completed == 2
