"""Exports of the audit as the tests of their routes and of their page need them."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from app_db import Database
from app_db.features.export.payloads import AuditExport
from app_db.features.export.repository import ExportRepository
from app_db.models import Job, JobState

CSV = b'"happened_at","event"\r\n'

type Finish = Callable[[UUID], Awaitable[None]]


@pytest.fixture
def finish(database: Database) -> Finish:
    """Finish an export as its job does."""

    async def finish(job_id: UUID) -> None:
        ended = {"state": JobState.COMPLETED, "claim_at": None, "finished_at": func.now()}
        async with database.unit_of_work() as session:
            job = await session.get_one(Job, job_id)
            assert job.owner_id is not None
            await ExportRepository(session).add(job_id, 0, user_id=job.owner_id, content=CSV)
            await session.execute(update(Job).where(Job.id == job_id).values(**ended))

    return finish


async def newest(database: Database) -> Job:
    async with database.unit_of_work(read_only=True) as session:
        jobs = select(Job).where(Job.kind == AuditExport.kind).order_by(Job.id.desc()).limit(1)
        return (await session.scalars(jobs)).one()
