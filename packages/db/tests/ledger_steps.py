"""The steps of relay and runner, and leases that run out, one function each, for the tests of the ledger."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update

from app_db import Database, Session
from app_db.clock import database_time
from app_db.jobs import claims, ledger
from app_db.jobs.claims import Claim
from app_db.jobs.leased import LeasedJobs
from app_db.jobs.ledger import Delivery, Starter
from app_db.models import Job, JobState
from app_db.types import new_id

type MakeJob = Callable[..., Awaitable[UUID]]

LEASE = timedelta(minutes=1)
PAST = timedelta(seconds=-1)
FINAL = [JobState.COMPLETED, JobState.DISCARDED, JobState.CANCELLED]


async def take(session: Session, *, queue: str = "default", max_jobs: int = 10) -> Claim:
    """Claim as a relay does, and commit."""
    claim = await claims.claim(session, queue=queue, max_jobs=max_jobs, lease=LEASE)
    if claim.has_limit:
        claim = await claims.claim_within_limit(session, queue=queue, max_jobs=max_jobs, lease=LEASE)
    await session.commit()
    return claim


async def claim(session: Session, *, queue: str = "default", max_jobs: int = 10) -> list[Delivery]:
    return list((await take(session, queue=queue, max_jobs=max_jobs)).deliveries)


async def start(session: Session, delivery: Delivery, *, leased: bool = True) -> ledger.StartedJob | None:
    """Start as a runner does, and commit."""
    started = await ledger.start(session, delivery, Starter(new_id(), ["test"] if leased else [], LEASE))
    await session.commit()
    return started


async def start_with_others(
    database: Database, leased: LeasedJobs, delivery: Delivery, starter: Starter
) -> ledger.StartedJob | None:
    """Start as a runner does after a leased job: in a group, else alone."""
    started = await leased.start(delivery)
    if started is not None:
        return started
    async with database.sessions.begin() as session:
        return await ledger.start(session, delivery, starter)


async def complete_with_others(database: Database, leased: LeasedJobs, delivery: Delivery, result: Any) -> bool:
    """Complete as a recorder does: in a group, else alone."""
    if await leased.complete(delivery, result=result, progress={"done": result}):
        return True
    return await complete_alone(database, delivery, result)


async def complete_alone(database: Database, delivery: Delivery, result: Any) -> bool:
    end = {"state": JobState.COMPLETED, "result": result, "progress": {"done": result}}
    async with database.sessions.begin() as session:
        return await ledger.finish(session, delivery, **end) is not None


async def claimed(session: Session) -> Delivery:
    (delivery,) = await claim(session)
    return delivery


async def executing(session: Session) -> Delivery:
    delivery = await claimed(session)
    assert await start(session, delivery) is not None
    return delivery


async def overtaken(session: Session) -> Delivery:
    """A delivery whose job was executing, lost its lease, and has been delivered again."""
    delivery = await executing(session)
    await let_lease_run_out(session, delivery.id)
    again = await claimed(session)
    assert await start(session, again) is not None
    return delivery


async def let_lease_run_out(session: Session, job_id: UUID) -> None:
    await session.execute(update(Job).where(Job.id == job_id).values(claim_at=func.now() + PAST))
    await session.commit()


async def stored(session: Session, job_id: UUID) -> Job:
    statement = select(Job).where(Job.id == job_id).execution_options(populate_existing=True)
    return (await session.scalars(statement)).one()


async def is_due_within(session: Session, job: Job, duration: timedelta) -> bool:
    now = await database_time(session)
    return job.claim_at is not None and now < job.claim_at <= now + duration
