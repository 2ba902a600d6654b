"""Which users may see which jobs, and act on them."""

from dataclasses import replace
from uuid import UUID

from app_api.features.jobs.schemas import JobDetail
from app_auth.audit import Event, audit
from app_auth.client import Client
from app_auth.permissions import is_operator, require_operator
from app_auth.principal import Principal
from app_db import Session
from app_db.errors import NotFound
from app_db.jobs import control
from app_db.jobs.control import Action
from app_db.jobs.crons import request_run
from app_db.jobs.filters import JobFilter
from app_db.models import OPEN_STATES, Job
from app_db.paging import Cursor, Slice
from app_db.repositories.jobs import JobRepository


class QueueNotFound(NotFound):
    """No queue of this name has jobs, a worker, or settings."""

    code = "queue_not_found"


async def find(
    session: Session,
    principal: Principal,
    job_filter: JobFilter,
    *,
    everybody: bool,
    after: Cursor | None,
    limit: int,
) -> Slice[Job]:
    """Return the user's own jobs that match, or everybody's.

    Raises:
        OperatorRequired: for the jobs of all users, unless the caller is an operator.
    """
    if everybody:
        require_operator(principal)  # guard: test_the_jobs_of_everybody_are_for_operators
    else:
        job_filter = replace(job_filter, owner_id=principal.user_id)
    return await JobRepository(session).matching(job_filter, after=after, limit=limit)


async def show(session: Session, principal: Principal, job_id: UUID) -> JobDetail:
    """Return a job of the user's own, or any to an operator.

    Raises:
        NotFound: there is no such job, or it is another's.
    """
    job = await _visible(session, principal, job_id)
    jobs = JobRepository(session)
    return JobDetail.of(
        job,
        await jobs.errors_of(job_id),
        cancel_requested=job.state in OPEN_STATES and await jobs.is_asked_to_end(job_id),
        for_operator=is_operator(principal),
    )


async def cancel(session: Session, principal: Principal, job_id: UUID) -> JobDetail:
    """Cancel a job of the user's own, or any for an operator, and return it as it is now.

    Raises:
        NotFound: there is no such job, or it is another's.
        JobIsFinal: it has ended in another way.
    """
    await _visible(session, principal, job_id)  # guard: test_the_job_of_another_cannot_be_cancelled
    await control.cancel(session, job_id)
    return await show(session, principal, job_id)


async def act_on_all(
    session: Session, principal: Principal, job_filter: JobFilter, action: Action, *, client: Client, limit: int = 1000
) -> int:
    """Apply an action to up to `limit` jobs that match and that it fits; return how many. The audit says who did it.

    Raises:
        FilterTooWide: the filter is empty.
        DuplicateJob: a job with the same unique key was enqueued meanwhile.
    """
    count = await control.act_on_all(session, job_filter, action, limit=limit)
    audit(
        session,
        Event.JOBS_ACTED_ON,
        client=client,
        actor_id=principal.user_id,
        session_id=principal.session_id,
        action=action.value,
        count=count,
        kind=job_filter.kind,
        queue=job_filter.queue,
        state=job_filter.state,
    )  # guard: test_who_acts_on_many_jobs_is_audited
    return count


async def pause(session: Session, queue: str, *, principal: Principal, client: Client) -> None:
    """Pause a queue that is in use: an unused name is a typing error, and pausing it would look like success.

    Raises:
        QueueNotFound: nothing has this name.
    """
    await _require_queue(session, queue)
    await control.pause(session, queue, by=str(principal.user_id))
    _audit_queue(session, Event.QUEUE_PAUSED, principal, client=client, queue=queue)


async def resume(session: Session, queue: str, *, principal: Principal, client: Client) -> None:
    """End the pause of a queue.

    Raises:
        QueueNotFound: nothing has this name.
    """
    await _require_queue(session, queue)
    await control.resume(session, queue)
    _audit_queue(session, Event.QUEUE_RESUMED, principal, client=client, queue=queue)


async def limit(session: Session, queue: str, max_running: int | None, *, principal: Principal, client: Client) -> None:
    """Let so many jobs of a queue run at once, over all workers; None lifts the limit.

    Raises:
        QueueNotFound: nothing has this name.
    """
    await _require_queue(session, queue)
    await control.limit(session, queue, max_running)
    _audit_queue(session, Event.QUEUE_LIMITED, principal, client=client, queue=queue, max_running=max_running)


async def run_cron(session: Session, name: str, *, principal: Principal, client: Client) -> None:
    """Ask the workers for a job of a cron besides its ticks; the audit says who did it.

    Raises:
        CronNotFound: there is no such cron.
        CronNotServed: no worker has it.
    """
    await request_run(session, name)
    audit(
        session,
        Event.CRON_RUN_REQUESTED,
        client=client,
        actor_id=principal.user_id,
        session_id=principal.session_id,
        cron=name,
    )  # guard: test_who_runs_a_cron_is_audited


def _audit_queue(
    session: Session, event: Event, principal: Principal, *, client: Client, queue: str, max_running: int | None = None
) -> None:
    audit(
        session,
        event,
        client=client,
        actor_id=principal.user_id,
        session_id=principal.session_id,
        queue=queue,
        max_running=max_running,
    )  # guard: test_who_pauses_a_queue_is_audited


async def _visible(session: Session, principal: Principal, job_id: UUID) -> Job:
    jobs = JobRepository(session)
    owned = None if is_operator(principal) else principal.user_id
    job = await (jobs.get(job_id) if owned is None else jobs.get_owned(job_id, owner_id=owned))
    if job is None:
        raise NotFound
    return job


async def _require_queue(session: Session, queue: str) -> None:
    if not await JobRepository(session).has_queue(queue):
        raise QueueNotFound
