"""Tasks that a handler started and did not wait for, once its job is over."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InvalidRequestError

from app_db import Database
from app_db.models import JobState
from app_db.pool import CountingPool
from app_worker.context import JobContext
from app_worker.registry import Mode, handles

from .conftest import Jobs, MakeRunner, Note


@pytest.mark.parametrize("mode", Mode)
async def test_a_task_that_outlives_its_job_takes_no_connection(
    jobs: Jobs, database: Database, make_runner: MakeRunner, mode: Mode
) -> None:
    """hail-is/hail #14424, on tasks that nobody ended: one that went on with its job's session opened a transaction."""
    over = asyncio.Event()
    strays: list[asyncio.Task[None]] = []

    async def stray(job: JobContext) -> None:
        if job.tx_session is not None:
            session = job.tx_session
            await over.wait()
        else:
            async with job.transaction() as session:
                pass
            await over.wait()
        await session.execute(text("INSERT INTO job_queues (name) VALUES ('stray')"))

    @handles(Note, mode=mode)
    async def forgets(job: JobContext, payload: Note) -> None:
        strays.append(asyncio.create_task(stray(job)))
        await asyncio.sleep(0.2)

    delivery = await jobs.deliver()
    await make_runner(forgets).run(delivery)
    pool = database.engine.pool
    assert isinstance(pool, CountingPool)
    before = pool.checkedout()
    over.set()

    with pytest.raises(InvalidRequestError, match="closed"):
        await strays[0]
    assert pool.checkedout() == before
    assert (await jobs.get(delivery)).state is JobState.COMPLETED
