"""The batches and chains that the caller has started; an operator sees everybody's."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from app_api.dependencies import AuthDep, ClientDep, CursorDep, LimitDep, OperatorDep, SessionDep
from app_api.features.jobs import batches
from app_api.features.jobs.batches import BatchPage, BatchRead
from app_api.features.jobs.router import OF_CALLERS, ReaderDep, WriterDep
from app_api.features.jobs.schemas import BulkResult, JobPage
from app_api.problems import problem_responses
from app_auth.errors import ReauthenticationRequired
from app_auth.permissions import OperatorRequired
from app_db.errors import NotFound
from app_db.jobs import batch_ends
from app_db.jobs.control import DuplicateJob
from app_db.models import JobState

router = APIRouter(prefix="/jobs/batches", tags=["jobs"], responses=problem_responses(*OF_CALLERS))


@router.get("", responses=problem_responses(OperatorRequired))
async def list_batches(
    caller: ReaderDep,
    session: SessionDep,
    *,
    after: CursorDep,
    limit: LimitDep = 20,
    everybody: Annotated[bool, Query(alias="all")] = False,
) -> BatchPage:
    """List the caller's batches and chains, newest first; with `all=true` an operator lists everybody's."""
    page = await batches.find(session, caller, everybody=everybody, after=after, limit=limit)
    return BatchPage.model_validate(page)


@router.get("/{batch_id}", responses=problem_responses(NotFound))
async def read_batch(batch_id: UUID, caller: ReaderDep, session: SessionDep) -> BatchRead:
    """Show how far a batch of the caller is, or any to an operator."""
    return await batches.show(session, caller, batch_id)


@router.get("/{batch_id}/jobs", responses=problem_responses(NotFound))
async def list_batch_jobs(
    batch_id: UUID,
    caller: ReaderDep,
    session: SessionDep,
    *,
    after: CursorDep,
    limit: LimitDep = 20,
    state: JobState | None = None,
) -> JobPage:
    """List the jobs of a batch, newest first; those of a chain that have yet to be enqueued are not among them."""
    page = await batches.jobs(session, caller, batch_id, state=state, after=after, limit=limit)
    return JobPage.model_validate(page)


@router.post("/{batch_id}/cancel", responses=problem_responses(NotFound))
async def cancel_batch(batch_id: UUID, caller: WriterDep, session: SessionDep) -> BatchRead:
    """Cancel what of a batch has not ended, as `POST /jobs/{job_id}/cancel` does for a job. May be repeated."""
    return await batches.cancel(session, caller, batch_id)


@router.post(
    "/{batch_id}/retry", responses=problem_responses(NotFound, OperatorRequired, DuplicateJob, ReauthenticationRequired)
)
async def retry_batch(
    batch_id: UUID, operator: OperatorDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> BulkResult:
    """Retry up to a thousand jobs of a batch that failed or were cancelled; repeat it until the count is 0."""
    count = await batches.retry(auth, session, operator, batch_id, client=client)
    return BulkResult(count=count, partial=count == batch_ends.AT_ONCE)
