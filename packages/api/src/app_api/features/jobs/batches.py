"""Batches and chains on the wire, and which users may see and cancel them."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from app_api.features.jobs import service
from app_api.paging import Page
from app_auth.audit import Event, audit_jobs
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.permissions import is_operator, require_operator
from app_auth.principal import Caller, Principal
from app_db import Session
from app_db.errors import NotFound
from app_db.jobs import batch_ends
from app_db.jobs.control import Action
from app_db.jobs.filters import JobFilter
from app_db.models import Job, JobState
from app_db.paging import Cursor, Slice
from app_db.repositories.job_batches import BatchOverview, BatchState, JobBatchRepository


class BatchRead(BaseModel):
    """Jobs that belong together, and how far they are."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    is_chain: bool
    """Whether its jobs run one after the other."""
    state: BatchState
    owner_id: UUID | None
    created_at: datetime
    ended_at: datetime | None
    """When its last job ended; null again while one of them is retried."""
    cancelled_at: datetime | None
    """When it was cancelled as a whole."""
    total: int
    """The number of its jobs; of a chain, those too that have yet to be enqueued."""
    completed: int
    discarded: int
    cancelled: int
    failed_id: UUID | None
    """The last of its jobs that was discarded or cancelled: a chain has ended with it."""
    then_id: UUID | None
    """The job that was enqueued when all had completed; null until then."""
    on_failure_id: UUID | None
    """The job that was enqueued when all had ended, and not all had completed."""


class BatchPage(Page[BatchRead]):
    """Batches and chains, newest first."""


async def find(
    session: Session, caller: Caller, *, everybody: bool, after: Cursor | None, limit: int
) -> Slice[BatchOverview]:
    """Return the user's own batches, or everybody's.

    Raises:
        OperatorRequired: for those of all users, unless the caller is an operator.
    """
    if everybody:
        require_operator(caller)  # guard: test_the_batches_of_everybody_are_for_operators
    owner_id = None if everybody else caller.user_id
    return await JobBatchRepository(session).page(owner_id=owner_id, after=after, limit=limit)


async def show(session: Session, caller: Caller, batch_id: UUID) -> BatchRead:
    """Return a batch of the user's own, or any to an operator.

    Raises:
        NotFound: there is no such batch, or it is another's.
    """
    return await _read(session, batch_id, owner_id=None if is_operator(caller) else caller.user_id)


async def jobs(
    session: Session, caller: Caller, batch_id: UUID, *, state: JobState | None, after: Cursor | None, limit: int
) -> Slice[Job]:
    """Return a page of the jobs of a batch.

    Raises:
        NotFound: as `show` does.
    """
    await show(session, caller, batch_id)  # guard: test_the_batch_of_another_is_not_found
    return await JobBatchRepository(session).jobs(batch_id, state=state, after=after, limit=limit)


async def cancel(session: Session, caller: Caller, batch_id: UUID) -> BatchRead:
    """Cancel a batch of the user's own, or any for an operator, and return it as it is now.

    Raises:
        NotFound: as `show` does.
    """
    await show(session, caller, batch_id)  # guard: test_the_batch_of_another_is_not_found
    await batch_ends.cancel_batch(session, batch_id)
    return await _read(session, batch_id, owner_id=None)


async def retry(auth: Auth, session: Session, principal: Principal, batch_id: UUID, *, client: Client) -> int:
    """Retry jobs of a batch that failed or were cancelled, and return how many. The audit says who did it.

    Raises:
        NotFound: there is no such batch.
        DuplicateJob: a job with the same unique key was enqueued meanwhile.
        ReauthenticationRequired: one of them acts on many others, and the sign-in is not fresh.
    """
    members = JobFilter(batch_id=batch_id)
    await service.require_fresh_to_act(auth, session, principal, members, Action.RETRY)
    count = await batch_ends.retry_batch(session, batch_id)
    audit_jobs(
        session, Event.JOBS_ACTED_ON, members, Action.RETRY, client=client, actor_id=principal.user_id,
        session_id=principal.session_id, count=count,
    )  # guard: test_who_retries_a_batch_is_audited  # fmt: skip
    return count


async def _read(session: Session, batch_id: UUID, *, owner_id: UUID | None) -> BatchRead:
    batch = await JobBatchRepository(session).get(batch_id, owner_id=owner_id)
    if batch is None:
        raise NotFound  # guard: test_the_batch_of_another_is_not_found
    return BatchRead.model_validate(batch)
