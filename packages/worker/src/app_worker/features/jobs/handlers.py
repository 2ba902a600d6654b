"""The job that acts on many others, in batches that show how far it is."""

import asyncio
import time
from datetime import timedelta
from typing import Self
from uuid import UUID

import structlog
from pydantic import BaseModel

from app_auth.audit import Event, audit_jobs
from app_auth.client import NOBODY
from app_db import Session
from app_db.features.jobs.payloads import ActOnJobs
from app_db.jobs import bulk, ledger
from app_db.jobs.control import FilterTooWide
from app_db.repositories.jobs import JobRepository
from app_worker.context import Discard, JobContext, Snooze
from app_worker.registry import Mode, handles

log = structlog.get_logger(__name__)


class Walked(BaseModel, frozen=True):
    """How far the job is: its progress, written with each batch, so that the next attempt goes on from there."""

    done: int = 0
    """How many jobs were looked at."""
    of: int
    acted_on: int = 0
    after: UUID | None = None
    is_over: bool = False

    def with_batch(self, batch: bulk.Batch) -> Self:
        """Return the progress after one more batch."""
        counts = {"done": self.done + batch.looked_at, "acted_on": self.acted_on + batch.acted_on}
        return self.model_copy(update={**counts, "after": batch.last_id, "is_over": batch.last_id is None})


TURN = timedelta(minutes=5)
"""After this time the job lets others of its queue run; it costs no attempt, so any number of jobs can be acted on."""


@handles(ActOnJobs, mode=Mode.LEASE, timeout=2 * TURN)
async def act_on_jobs(job: JobContext, payload: ActOnJobs) -> dict[str, int]:
    """Cancel, retry, discard or delete all jobs that match, in batches with a transaction each.

    A batch and the progress that counts it are one commit. The audit gets the number once: with the completion of the
    job, or when it is cancelled while it runs.
    """
    if not payload.to_filter().conditions():
        raise Discard(FilterTooWide.__doc__)  # guard: test_an_action_on_every_job_there_is_is_given_up
    try:
        walked, began = await _begin(job, payload), time.monotonic()
        while not walked.is_over:
            walked = await _act_on_batch(job, payload, walked)
            if time.monotonic() - began > TURN.total_seconds():
                raise Snooze(timedelta(seconds=1))
    except asyncio.CancelledError:
        await _note_cancelled(job, payload)
        raise
    async with job.last_transaction() as session:
        _audit(session, job, payload, count=walked.acted_on)  # guard: test_all_that_match_are_acted_on_and_audited_once
    log.info("jobs_acted_on", action=payload.action.value, count=walked.acted_on)
    return {"acted_on": walked.acted_on}


async def _begin(job: JobContext, payload: ActOnJobs) -> Walked:
    """Return how far an earlier attempt has come; the first one counts the jobs that it has to look at."""
    async with job.transaction() as session:
        walked = await _walked(session, job)
        return walked or Walked(of=await bulk.count_range(session, payload.to_filter(), until=job.id))


async def _act_on_batch(job: JobContext, payload: ActOnJobs, walked: Walked) -> Walked:
    async with job.transaction() as session:
        batch = await bulk.act_on_batch(
            session, payload.to_filter(), payload.action, after=walked.after, until=job.id, most=bulk.LOOKED_AT
        )
        walked = walked.with_batch(batch)
        await ledger.set_progress(
            session, job.delivery, walked.model_dump(mode="json")
        )  # guard: test_an_attempt_goes_on_where_the_last_one_was_killed
        return walked


async def _walked(session: Session, job: JobContext) -> Walked | None:
    row = await JobRepository(session).get(job.id)
    return None if row is None or row.progress is None else Walked.model_validate(row.progress)


async def _note_cancelled(job: JobContext, payload: ActOnJobs) -> None:
    """Write the number into the audit if the job was asked to end; after a stop of the worker, it goes on later."""
    async with job.transaction() as session:
        walked = await _walked(session, job)
        if await JobRepository(session).is_asked_to_end(job.id):
            _audit(session, job, payload, count=walked.acted_on if walked else 0)


def _audit(session: Session, job: JobContext, payload: ActOnJobs, *, count: int) -> None:
    audit_jobs(
        session, Event.JOBS_ACTED_ON, payload.to_filter(), payload.action, client=NOBODY, actor_id=job.owner_id,
        job_id=job.id, count=count,
    )  # fmt: skip
