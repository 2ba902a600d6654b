"""Actions of users and operators on jobs and queues: cancel, retry, discard, pause, limit. Nothing here commits."""

from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    Text,
    case,
    cast,
    delete,
    func,
    null,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on

from app_db.errors import Conflict, Invalid, NotFound
from app_db.jobs import deletion, ending, index_scans
from app_db.jobs.after_commit import notify_after_commit
from app_db.jobs.bounds import INTEGER, SMALLINT, require_name
from app_db.jobs.filters import JobFilter, has_no_double, is_in
from app_db.jobs.index_scans import IndexScan
from app_db.models import FINAL_STATES, OPEN_STATES, Job, JobCancellation, JobState
from app_db.session import Session
from app_db.violations import violation_as

QUEUED = frozenset({JobState.SCHEDULED, JobState.AVAILABLE, JobState.DISPATCHED, JobState.RETRYABLE})
"""States of jobs that have not started; a running tx job shows `dispatched` too, but its row is locked."""
RETRIABLE = FINAL_STATES | {JobState.RETRYABLE, JobState.SCHEDULED}
FAILED = frozenset({JobState.DISCARDED, JobState.RETRYABLE})

NO_SYNC = {"synchronize_session": False}
"""The statements do not update entities that are loaded in the session already: read those again."""


class JobIsFinal(Conflict):
    """The job has ended."""

    code = "job_is_final"


class JobIsRunning(Conflict):
    """The job is running, or about to."""

    code = "job_is_running"


class DuplicateJob(Conflict):
    """Another job that is unique in the same way is waiting or running."""

    code = "job_duplicate"


class FilterTooWide(Invalid):
    """Name at least a state, a kind or a queue: this would act on every job there is."""

    code = "filter_too_wide"


class Action(StrEnum):
    """An action that may be applied to many jobs at once."""

    CANCEL = "cancel"
    RETRY = "retry"
    DISCARD = "discard"
    DELETE = "delete"


async def cancel(session: Session, job_id: UUID) -> None:
    """Cancel a job: at once if it waits; else write a cancellation request, which notifies its worker after the commit.

    A job that runs in tx mode cannot be stopped: it completes, or is cancelled instead of its next attempt. Cancelling
    a job twice is no error.

    Raises:
        NotFound: there is no such job.
        JobIsFinal: the job was completed or discarded.

    Example:
        job_id = await enqueue(session, EndSessions(user_id=ada.id))
        await cancel(session, job_id)
    """
    if await ending.end_waiting(session, JobState.CANCELLED, [_queued(job_id)], limit=1):
        return
    state = (await session.scalars(_REQUEST_CANCELLATION, {"id": job_id})).one_or_none()
    if state is None:
        raise NotFound
    if state in FINAL_STATES and state != JobState.CANCELLED:
        raise JobIsFinal
    notify_after_commit(session)  # guard: test_workers_look_at_once_when_there_is_something_for_them


async def retry(session: Session, job_id: UUID) -> None:
    """Make a job due now that has ended, is scheduled, or waits for its next attempt.

    The job gets at least one more attempt, and keeps the attempts that were left. Its crashes, cancellation request,
    result and progress are deleted. A job that is due already stays as it is.

    Raises:
        NotFound: there is no such job.
        JobIsRunning: the job is dispatched or executing.
        DuplicateJob: another job holds its unique key now; the transaction is lost.
    """
    if not await _revive(session, [is_in(RETRIABLE), Job.id == job_id], limit=1, skip_locked=False):
        state = await _state_of(session, job_id)
        if state is not JobState.AVAILABLE:
            raise JobIsRunning


async def discard(session: Session, job_id: UUID) -> None:
    """Discard a job that waits; it is kept as discarded, and may be retried.

    Raises:
        NotFound: there is no such job.
        JobIsFinal, JobIsRunning: the job has ended, or has been started.
    """
    if not await ending.end_waiting(session, JobState.DISCARDED, [_queued(job_id)], limit=1):
        raise JobIsFinal if await _state_of(session, job_id) in FINAL_STATES else JobIsRunning


async def act_on_all(
    session: Session, job_filter: JobFilter, action: Action, *, limit: int = 1000, most_looked_at: int | None = None
) -> int:
    """Apply an action to up to `limit` matching jobs that it fits; return how many. Commit and repeat until it is 0.

    Without a state in the filter, RETRY chooses failed jobs only (discarded, retryable), so that it does not run jobs
    by accident that were cancelled, have completed or are not due yet. Of jobs with the same unique key one is retried.
    DELETE fits jobs that have ended, in whatever way. No index has the kinds of jobs that are due: CANCEL and DISCARD
    look at all of these, or at `most_looked_at`; then more may match, and `counting.count_all` says so.

    Raises:
        FilterTooWide: the filter is empty.
        DuplicateJob: a job with the same unique key was enqueued meanwhile; the transaction is lost, try again.
    """
    conditions = job_filter.conditions()
    if not conditions:
        raise FilterTooWide  # guard: test_acting_on_every_job_there_is_is_refused
    if action is Action.RETRY:
        fitting, scan = _revivable(job_filter)
        return await _revive(session, fitting, limit=limit, skip_locked=True, scan=scan)
    if action is Action.DELETE:
        return await deletion.delete_ended(session, conditions, limit=limit)
    waiting = ending.matching(job_filter, QUEUED, most_looked_at=most_looked_at)
    if action is Action.DISCARD:
        return await ending.end_waiting(session, JobState.DISCARDED, waiting, limit=limit)
    ended = await ending.end_waiting(session, JobState.CANCELLED, waiting, limit=limit)
    others = ending.matching(job_filter, OPEN_STATES, most_looked_at=most_looked_at)
    return ended + await ending.request_cancellations(session, others, limit=limit - ended)


async def pause(session: Session, queue: str, *, by: str | None = None) -> None:
    """Claim no more jobs of the queue once this is committed; running jobs continue.

    Deliveries that wait for a free slot are withdrawn within a fifth of a worker's lease, which is 3 s.
    A queue without jobs may be paused too. Idempotent: the time and the author of the first pause stay.

    Args:
        session: the pause joins its transaction.
        queue: its name.
        by: who pauses it, for pages: the id of an account, or `shell`.

    Raises:
        ValueError: for an invalid name.
    """
    require_name(queue, "the queue")
    await session.execute(_PAUSE, {"queue": queue, "by": by})


async def resume(session: Session, queue: str) -> None:
    """End the pause of the queue; relays claim its jobs as soon as this is committed. Idempotent."""
    await session.execute(_RESUME, {"queue": queue})
    notify_after_commit(session)  # guard: test_workers_look_at_once_when_there_is_something_for_them


async def limit(session: Session, queue: str, max_running: int | None) -> None:
    """Let at most `max_running` jobs of the queue run at once, over all workers together; None lifts the limit.

    Raises:
        ValueError: for less than one (to stop a queue, pause it), more than `INTEGER`, or an invalid name.
    """
    if max_running is not None and not 1 <= max_running < INTEGER:
        raise ValueError(f"a limit is between 1 and {INTEGER - 1}; to stop a queue, pause it")
    require_name(queue, "the queue")
    await session.execute(_LIMIT, {"queue": queue, "max_running": max_running})
    notify_after_commit(session)  # guard: test_workers_look_at_once_when_there_is_something_for_them


# One statement, so that the state it returns is the state that decided about the request.
_REQUEST_CANCELLATION = text("""
    WITH job AS (
        SELECT id, state, claim_at FROM jobs WHERE id = :id
    ), requested AS (
        INSERT INTO job_cancellations (job_id) SELECT id FROM job WHERE claim_at IS NOT NULL ON CONFLICT DO NOTHING
    )
    SELECT state FROM job
""")

_PAUSE = text("""
    INSERT INTO job_queues AS queue (name, paused_at, paused_by) VALUES (:queue, now(), :by)
    ON CONFLICT (name) DO UPDATE SET paused_at = excluded.paused_at, paused_by = excluded.paused_by
        WHERE queue.paused_at IS NULL
""")

_RESUME = text("UPDATE job_queues SET paused_at = NULL, paused_by = NULL WHERE name = :queue")

_LIMIT = text("""
    INSERT INTO job_queues (name, max_running) VALUES (:queue, :max_running)
    ON CONFLICT (name) DO UPDATE SET max_running = excluded.max_running
""")


_REVIVED = {
    "state": JobState.AVAILABLE,
    "claim_at": func.now(),
    "run_at": func.least(Job.run_at, func.now()),
    "finished_at": None,
    # Limits are checked after a failure, so a job with NULL (the limit of its handler) gets another attempt as well.
    "max_attempts": case(
        (Job.max_attempts <= Job.attempt, func.least(Job.attempt, SMALLINT - 2) + 1), else_=Job.max_attempts
    ),  # guard: test_a_job_that_has_used_all_attempts_there_can_be_does_not_stop_the_retry_of_others
    "crashes": 0,  # guard: test_a_retry_starts_with_a_clean_record
    "result": null(),
    "progress": null(),
    # A job that has completed runs again from the beginning; any other goes on after its last step.
    "steps": case((Job.state == JobState.COMPLETED, null()), else_=Job.steps),
    "cursor": case((Job.state == JobState.COMPLETED, null()), else_=Job.cursor),
}


async def _revive(
    session: Session,
    conditions: Sequence[ColumnElement[bool]],
    *,
    limit: int,
    skip_locked: bool,
    scan: IndexScan | None = None,
) -> int:
    """Make jobs due now, as if they had never ended or failed, and return how many."""
    locked = _lock(conditions, limit=limit, skip_locked=skip_locked, scan=scan)
    # Revive at most one job per unique key, so that a duplicate does not fail the whole batch.
    chosen = select(locked.c.id).ext(distinct_on(func.coalesce(locked.c.unique_key, cast(locked.c.id, Text)))).cte()
    statement = update(Job).where(Job.id == chosen.c.id).returning(Job.id).values(_REVIVED)
    with violation_as(DuplicateJob, of="uq_jobs_unique_key"):
        revived = (await session.scalars(statement, execution_options=NO_SYNC)).all()
    if revived:
        await session.execute(delete(JobCancellation).where(JobCancellation.job_id.in_(revived)))
        notify_after_commit(session)  # guard: test_workers_look_at_once_when_there_is_something_for_them
    return len(revived)


def _queued(job_id: UUID) -> Select[UUID]:
    return select(Job.id).where(is_in(QUEUED), Job.id == job_id)


async def _state_of(session: Session, job_id: UUID) -> JobState:
    state = (await session.scalars(select(Job.state).where(Job.id == job_id))).one_or_none()
    if state is None:
        raise NotFound
    return state


def _lock(
    conditions: Sequence[ColumnElement[bool]], *, limit: int, skip_locked: bool, scan: IndexScan | None = None
) -> CTE:
    """Lock up to `limit` jobs that match, as a CTE, which Postgres evaluates once."""
    # NO KEY: the foreign key of a cancellation request must not wait for these locks.
    jobs = select(Job.id, Job.unique_key).where(*conditions)
    jobs = (jobs if scan is None else scan.applied_to(jobs)).limit(limit)
    return jobs.with_for_update(key_share=True, skip_locked=skip_locked).cte("locked")


def _revivable(job_filter: JobFilter) -> tuple[list[ColumnElement[bool]], IndexScan]:
    """Return the conditions of the jobs that a retry of many fits, and the index that has them."""
    states = FAILED if job_filter.state is None else RETRIABLE & {job_filter.state}
    scan = index_scans.ENDED if JobState.COMPLETED in states else index_scans.SET_APART
    scan = scan if job_filter.batch_id is None else index_scans.OF_A_BATCH
    return [Job.state.in_(sorted(states)), has_no_double(), *job_filter.conditions()], scan
