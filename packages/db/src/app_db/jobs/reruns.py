"""Reruns: a new job made from one that stays as it is, and the links between the two."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, update

from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.models import Job
from app_db.repositories.job_views import JobBrief
from app_db.repositories.jobs import JobRepository
from app_db.repositories.limits import unseen
from app_db.session import Session

MOST_RERUNS = 20
"""How many reruns of a job are shown, the newest first."""


@dataclass(frozen=True, slots=True)
class Links:
    """The job that a job was made from, and the jobs that were made from it."""

    origin: JobBrief | None
    """None if there is none, or it has been deleted."""
    reruns: Sequence[JobBrief]


NO_LINKS = Links(None, ())
"""The links of a job for which nobody has looked them up."""


async def run_again(session: Session, origin: Job, payload: JobPayload, *, owner_id: UUID | None) -> UUID:
    """Enqueue a new job of the same kind in the caller's transaction, and return its id. `origin` stays as it is.

    Queue, priority and the limit of attempts are those of `origin`; its deletion later leaves the new job alone.

    Raises:
        ValueError: as `enqueue` does.
    """
    job_id = await enqueue(
        session,
        payload,
        queue=origin.queue,
        priority=origin.priority,
        max_attempts=origin.max_attempts,
        owner_id=owner_id,
    )
    # A statement of its own, so that jobs without an origin pay nothing for it.
    await session.execute(update(Job).where(Job.id == job_id).values(origin_id=origin.id))
    return job_id


async def links_of(session: Session, job: Job) -> Links:
    """Return the links of a job, up to `MOST_RERUNS` reruns, by one query or two."""
    jobs = JobRepository(session)
    newest = select(Job.id).where(Job.origin_id == job.id).order_by(Job.id.desc()).limit(unseen(MOST_RERUNS))
    reruns = (await session.scalars(newest)).all()
    found = await jobs.briefs([*reruns, *([job.origin_id] if job.origin_id else [])])
    return Links(found.get(job.origin_id) if job.origin_id else None, [found[id_] for id_ in reruns if id_ in found])
