"""Jobs with limits, and what relays and runners do with them, for the tests of limits."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from app_db import Session
from app_db.jobs import admission
from app_db.jobs.ledger import Delivery, Starter, finish, start
from app_db.jobs.limits import Limit
from app_db.jobs.outbox import enqueue_many
from app_db.jobs.payload import JobPayload
from app_db.models import JobState
from app_db.types import new_id

from .ledger_steps import LEASE, take

HOUR = timedelta(hours=1)


class Call(JobPayload, limit=Limit(running=2, per="clinic")):
    """A call to a clinic that takes two at once."""

    kind = "test"
    clinic: str = "ann"


class Mail(JobPayload, limit=Limit(rate="3/m", per="owner_id")):
    """A mail of an owner who may send three a minute."""

    kind = "test.mail"


class Plain(JobPayload):
    """A job without a limit."""

    kind = "test.plain"


async def add(session: Session, *clinics: str, **terms: object) -> list[UUID]:
    ids = await enqueue_many(session, [Call(clinic=clinic) for clinic in clinics], **terms)  # type: ignore[arg-type]  # of enqueue_many
    await session.commit()
    return ids


async def admitted(session: Session, *, queue: str = "default", max_jobs: int = 100) -> list[Delivery]:
    """Claim as relays do, until nothing more may be admitted."""
    found: list[Delivery] = []
    while True:
        claim = await take(session, queue=queue, max_jobs=max_jobs)
        found += claim.deliveries
        if not claim.may_admit:
            return found
        count = await admission.admit(session, queue=queue, max_jobs=max_jobs)
        await session.commit()
        if not count and not claim.deliveries:
            return found


async def run(session: Session, delivery: Delivery, *, leased: bool = True) -> None:
    await start(session, delivery, Starter(new_id(), ["test"] if leased else [], LEASE))
    await session.commit()


async def end(session: Session, delivery: Delivery, state: JobState = JobState.COMPLETED, **about: object) -> None:
    assert await finish(session, delivery, state=state, **about)  # type: ignore[arg-type]  # of finish
    await session.commit()


async def mail(session: Session, count: int, owner_id: UUID | None = None) -> None:
    await enqueue_many(session, [Mail()] * count, owner_id=owner_id)
    await session.commit()


async def move_starts(session: Session, by: timedelta) -> None:
    """Let the starts of before be longer ago."""
    await admitted(session)
    await session.execute(
        text("""
            UPDATE job_limit_keys SET started = ARRAY(SELECT at - CAST(:by AS interval) FROM unnest(started) AS at),
                admit_at = admit_at - CAST(:by AS interval)
        """),
        {"by": by},
    )
    await session.commit()
