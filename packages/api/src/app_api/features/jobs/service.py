"""Which users may see which jobs, and act on them."""

from dataclasses import replace
from typing import Final
from uuid import UUID

from app_api.features.jobs.schemas import JobDetail
from app_auth.audit import Event, audit, audit_jobs
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.permissions import is_operator, require_fresh, require_operator
from app_auth.principal import Caller, Principal
from app_db import Session
from app_db.errors import NotFound
from app_db.features.jobs.payloads import ActOnJobs
from app_db.jobs import bulk, control
from app_db.jobs.control import Action, FilterTooWide
from app_db.jobs.counting import NONE, Count, count_all
from app_db.jobs.deletion import delete_job
from app_db.jobs.filters import JobFilter
from app_db.jobs.outbox import enqueue
from app_db.jobs.reruns import NO_LINKS, links_of
from app_db.jobs.unique import Unique
from app_db.models import Job
from app_db.paging import Cursor, Slice
from app_db.repositories.job_views import JobLine
from app_db.repositories.jobs import JobRepository
from app_db.repositories.walks import MOST_LOOKED_AT

AT_ONCE: Final = 250
"""How many jobs one request acts on: its transaction holds their rows."""


class QueueNotFound(NotFound):
    """No queue of this name has jobs, a worker, or settings."""

    code = "queue_not_found"


async def find(
    session: Session,
    caller: Caller,
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
        require_operator(caller)  # guard: test_the_jobs_of_everybody_are_for_operators
    else:
        job_filter = replace(job_filter, owner_id=caller.user_id)
    return await JobRepository(session).matching(job_filter, after=after, limit=limit)


async def show(session: Session, caller: Caller, job_id: UUID) -> JobDetail:
    """Return a job of the user's own, or any to an operator.

    Raises:
        NotFound: there is no such job, or it is another's.
    """
    job, asked_to_end, has_reruns = await _visible(session, caller, job_id)
    errors, for_operator = await JobRepository(session).errors_of(job_id), is_operator(caller)
    has_links = job.origin_id is not None or has_reruns
    links = await links_of(session, job) if for_operator and has_links else NO_LINKS
    return JobDetail.of(job, errors, cancel_requested=asked_to_end, for_operator=for_operator, links=links)


async def watched(session: Session, caller: Caller, job_id: UUID) -> JobLine:
    """Return what streams show of a job of the user's own, or of any to an operator.

    Raises:
        NotFound: there is no such job, or it is another's.
    """
    owner_id = None if is_operator(caller) else caller.user_id
    line = (await JobRepository(session).watched([job_id], owner_id=owner_id)).get(job_id)
    if line is None:
        raise NotFound  # guard: test_nobody_follows_the_job_of_another
    return line


async def cancel(session: Session, caller: Caller, job_id: UUID) -> JobDetail:
    """Cancel a job of the user's own, or any for an operator, and return it as it is now.

    Raises:
        NotFound: there is no such job, or it is another's.
        JobIsFinal: it has ended in another way.
    """
    await _visible(session, caller, job_id)  # guard: test_the_job_of_another_cannot_be_cancelled
    await control.cancel(session, job_id)
    return await show(session, caller, job_id)


async def act_on_all(
    auth: Auth, session: Session, principal: Principal, job_filter: JobFilter, action: Action, *, client: Client
) -> Count:
    """Apply an action to up to `AT_ONCE` jobs that match and that it fits; return how many, and whether more may match.

    The audit says who did it.

    Raises:
        FilterTooWide: the filter is empty.
        DuplicateJob: a job with the same unique key was enqueued meanwhile.
        ReauthenticationRequired: to delete jobs, the sign-in has to be fresh.
    """
    await require_fresh_to_act(auth, session, principal, job_filter, action)
    count = await control.act_on_all(session, job_filter, action, limit=AT_ONCE, most_looked_at=MOST_LOOKED_AT)
    audit_jobs(
        session,
        Event.JOBS_ACTED_ON,
        job_filter,
        action,
        client=client,
        actor_id=principal.user_id,
        session_id=principal.session_id,
        count=count,
    )  # guard: test_who_acts_on_many_jobs_is_audited
    may_be_more = count == AT_ONCE or (await count_all(session, job_filter, action, most=AT_ONCE)).at_least
    return Count(count, at_least=may_be_more)


async def start_acting(
    auth: Auth, session: Session, principal: Principal, job_filter: JobFilter, action: Action, *, client: Client
) -> UUID:
    """Enqueue the job that applies an action to all jobs that match, however many, and return its id.

    It shows its progress, can be cancelled, and goes on where it was killed. An equal one that is open is returned
    instead. The audit has a row now, and one with the number at its end.

    Raises:
        FilterTooWide, ReauthenticationRequired: as `act_on_all` does.
    """
    await require_fresh_to_act(auth, session, principal, job_filter, action)
    if not job_filter.conditions():
        raise FilterTooWide  # guard: test_an_action_on_every_job_is_not_started
    payload = ActOnJobs.of(action, job_filter)
    job_id = await enqueue(session, payload, queue=bulk.QUEUE, owner_id=principal.user_id, unique=Unique())
    audit_jobs(
        session,
        Event.JOBS_BULK_STARTED,
        job_filter,
        action,
        client=client,
        actor_id=principal.user_id,
        session_id=principal.session_id,
        job_id=job_id,
    )  # guard: test_who_starts_to_act_on_all_that_match_is_audited
    return job_id


async def act_on_matching(
    auth: Auth, session: Session, principal: Principal, job_filter: JobFilter, action: Action, *, client: Client
) -> UUID | None:
    """Act on all jobs that match: at once if they are few, else by a job, whose id is returned.

    Raises:
        FilterTooWide, DuplicateJob, ReauthenticationRequired: as `act_on_all` does.
    """
    if (await count_all(session, job_filter, action, most=AT_ONCE)).at_least:
        return await start_acting(auth, session, principal, job_filter, action, client=client)
    await act_on_all(auth, session, principal, job_filter, action, client=client)
    return None


async def delete(auth: Auth, session: Session, principal: Principal, job_id: UUID, *, client: Client) -> None:
    """Delete a job that has ended, with its errors. The audit says who did it.

    Raises:
        NotFound, JobIsOpen: there is no such job, or it has not ended.
        ReauthenticationRequired: the sign-in has to be fresh.
    """
    await require_fresh(auth, session, principal)  # guard: test_deleting_jobs_needs_a_fresh_sign_in
    kind = await delete_job(session, job_id)
    audit_jobs(
        session,
        Event.JOBS_ACTED_ON,
        JobFilter(kind=kind),
        Action.DELETE,
        client=client,
        actor_id=principal.user_id,
        session_id=principal.session_id,
        count=1,
        job_id=job_id,
    )  # guard: test_who_deletes_a_job_is_audited


async def retry(auth: Auth, session: Session, principal: Principal, job_id: UUID) -> None:
    """Make a job due now that has ended, is scheduled, or waits for its next attempt.

    Raises:
        NotFound, JobIsRunning, DuplicateJob: as `control.retry` does.
        ReauthenticationRequired: it is a job that acts on many others, and the sign-in is not fresh.
    """
    job, *_ = await _visible(session, principal, job_id)
    if job.kind == ActOnJobs.kind:
        await require_fresh(auth, session, principal)  # guard: test_work_on_many_jobs_is_begun_anew_by_a_fresh_sign_in
    await control.retry(session, job_id)


async def require_fresh_to_act(
    auth: Auth, session: Session, principal: Principal, job_filter: JobFilter, action: Action
) -> None:
    """Refuse to delete jobs, or to retry one that would act on many others, if the sign-in is not fresh."""
    if action is Action.DELETE:
        await require_fresh(auth, session, principal)  # guard: test_deleting_jobs_needs_a_fresh_sign_in
    may_act_on_many = action is Action.RETRY and job_filter.kind in {None, ActOnJobs.kind}
    of_many = replace(job_filter, kind=ActOnJobs.kind)
    if may_act_on_many and job_filter.conditions() and await count_all(session, of_many, action, most=1) != NONE:
        await require_fresh(auth, session, principal)  # guard: test_work_on_many_jobs_is_begun_anew_by_a_fresh_sign_in


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


async def _visible(session: Session, caller: Caller, job_id: UUID) -> tuple[Job, bool, bool]:
    owner_id = None if is_operator(caller) else caller.user_id
    found = await JobRepository(session).with_cancellation(job_id, owner_id=owner_id)
    if found is None:
        raise NotFound
    return found


async def _require_queue(session: Session, queue: str) -> None:
    if not await JobRepository(session).has_queue(queue):
        raise QueueNotFound
