"""Adds up how many jobs of a batch have ended, enqueues its last job, cancels and retries it as a whole."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import column, delete, exists, func, or_, select, text, update

from app_db.errors import NotFound
from app_db.jobs.after_commit import count_after_commit, notify_after_commit
from app_db.jobs.control import Action, act_on_all
from app_db.jobs.filters import JobFilter
from app_db.models import Job, JobBatch, JobState
from app_db.session import Session

AT_ONCE = 1000
"""How many jobs of a batch one transaction cancels or retries."""
BATCHES_AT_ONCE = 100

# A change is deleted by the transaction that adds it to the counts, so it counts once. All changes of a transaction are
# seen or none: those of a job that adds others, and ends, are never seen without the others. The batches are locked in
# the order of their ids, so that two workers wait for each other in no circle.
_SETTLE = text("""
    WITH locked AS MATERIALIZED (
        SELECT * FROM job_batches WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE
    ), changes AS (
        DELETE FROM job_batch_changes AS change USING locked WHERE change.batch_id = locked.id RETURNING change.*
    ), sums AS (
        SELECT batch_id, sum(added) AS added, sum(completed) AS completed, sum(discarded) AS discarded,
            sum(cancelled) AS cancelled,
            (array_agg(job_id ORDER BY id DESC) FILTER (WHERE discarded + cancelled > 0))[1] AS failed_id
        FROM changes GROUP BY batch_id
    ), counted AS (
        SELECT batch.id, batch.is_chain, batch.total + sums.added AS total,
            batch.completed + sums.completed AS completed, batch.discarded + sums.discarded AS discarded,
            batch.cancelled + sums.cancelled AS cancelled, coalesce(sums.failed_id, batch.failed_id) AS failed_id
        FROM locked AS batch JOIN sums ON batch_id = batch.id
    ), judged AS (
        SELECT *, completed = total AS has_completed, discarded + cancelled > 0
            AND (is_chain OR completed + discarded + cancelled = total) AS has_failed
        FROM counted
    ), settled AS (
        UPDATE job_batches AS batch SET total = now.total, completed = now.completed, discarded = now.discarded,
            cancelled = now.cancelled, failed_id = now.failed_id,
            ended_at = CASE WHEN has_completed OR has_failed THEN now() END,
            then_job = CASE WHEN NOT has_completed THEN then_job END,
            on_failure_job = CASE WHEN NOT has_failed THEN on_failure_job END
        FROM judged AS now WHERE batch.id = now.id
        RETURNING batch.id, batch.is_chain, ARRAY[
            CASE WHEN has_completed THEN old.then_job END, CASE WHEN has_failed THEN old.on_failure_job END
        ] AS last_jobs
    )
    SELECT settled.id, is_chain, job, enqueue_stored_job(job)
    FROM settled LEFT JOIN LATERAL unnest(last_jobs) AS job ON job IS NOT NULL
""").columns(column("id"), column("is_chain"), column("job"), column("enqueued"))

_CHANGED = text("SELECT DISTINCT batch_id FROM job_batch_changes LIMIT :limit").columns(column("id"))

_CANCELLED = select(JobBatch.id).where(JobBatch.cancelled_at.is_not(None), JobBatch.ended_at.is_(None))


async def settle(session: Session, batch_ids: Sequence[UUID]) -> list[UUID]:
    """Add up what has changed in these batches; return the last jobs that became due thereby.

    `then` and `on_failure` are enqueued by the transaction that finds that all have ended, once each.
    """
    rows = (await session.execute(_SETTLE, {"ids": list(batch_ids)})).all()
    last_jobs: list[dict[str, Any]] = [row.job for row in rows if row.job is not None]
    if last_jobs:
        count_after_commit(session, [job["kind"] for job in last_jobs])
    elif any(row.is_chain for row in rows):
        notify_after_commit(session)  # guard: test_the_next_job_of_a_chain_starts_at_once
    return [UUID(job["id"]) for job in last_jobs]


async def settle_all(session: Session) -> bool:
    """Add up what no worker has: of jobs that operators or a claim have ended, and of workers that were killed.

    Cancels jobs of batches that were cancelled, too; each call up to `AT_ONCE` of up to `BATCHES_AT_ONCE` batches.
    Returns whether there was anything to add up.
    """
    changed = (await session.scalars(_CHANGED, {"limit": BATCHES_AT_ONCE})).all()
    if changed:
        await settle(session, changed)
    for batch_id in (await session.scalars(_CANCELLED.limit(BATCHES_AT_ONCE))).all():
        await act_on_all(session, JobFilter(batch_id=batch_id), Action.CANCEL, limit=AT_ONCE)
    return bool(changed)


async def cancel_batch(session: Session, batch_id: UUID) -> None:
    """Cancel all jobs of a batch or chain that have not ended, as `cancel` does for one, and those that it would get.

    Workers cancel what exceeds `AT_ONCE` within seconds. A batch that has ended stays as it is.

    Raises:
        NotFound: there is no such batch.

    Example:
        batch_id = await enqueue_batch(session, [EndSessions(user_id=user.id) for user in (ada, bob)])
        await cancel_batch(session, batch_id)
    """
    statement = update(JobBatch).where(JobBatch.id == batch_id).returning(JobBatch.ended_at)
    values = {"cancelled_at": func.coalesce(JobBatch.cancelled_at, func.now())}
    row = (await session.execute(statement.values(values), execution_options=_NO_SYNC)).one_or_none()
    if row is None:
        raise NotFound
    if row.ended_at is None:
        await act_on_all(session, JobFilter(batch_id=batch_id), Action.CANCEL, limit=AT_ONCE)


async def retry_batch(session: Session, batch_id: UUID) -> int:
    """Retry up to `AT_ONCE` jobs of a batch that failed or were cancelled; return how many: repeat until it is 0.

    A chain goes on after the retried job. What `then` is for happens when all have completed.

    Raises:
        NotFound: there is no such batch.

    Example:
        batch_id = await enqueue_batch(session, [EndSessions(user_id=user.id) for user in (ada, bob)])
        assert await retry_batch(session, batch_id) == 0  # none has failed
    """
    statement = update(JobBatch).where(JobBatch.id == batch_id).values(cancelled_at=None).returning(JobBatch.id)
    if (await session.scalars(statement, execution_options=_NO_SYNC)).one_or_none() is None:
        raise NotFound
    retried = 0
    for state in (JobState.DISCARDED, JobState.CANCELLED, JobState.RETRYABLE):
        failed = JobFilter(state, batch_id=batch_id)
        retried += await act_on_all(session, failed, Action.RETRY, limit=AT_ONCE - retried)
    return retried


async def prune_batches(session: Session, *, limit: int) -> int:
    """Delete up to `limit` batches that have ended and whose jobs are deleted; return how many."""
    has_jobs = or_(exists().where(Job.batch_id == JobBatch.id), exists().where(Job.id.in_(_LAST_JOBS)))
    gone = select(JobBatch.id).where(JobBatch.ended_at < func.now(), ~has_jobs).order_by(JobBatch.ended_at)
    chosen = gone.limit(limit).with_for_update(skip_locked=True).cte("chosen")
    statement = delete(JobBatch).where(JobBatch.id == chosen.c.id).returning(JobBatch.id)
    return len((await session.scalars(statement, execution_options=_NO_SYNC)).all())


_LAST_JOBS = (JobBatch.then_id, JobBatch.on_failure_id)
_NO_SYNC = {"synchronize_session": False}
