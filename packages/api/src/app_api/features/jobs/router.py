"""The jobs that the caller has started; an operator sees everybody's."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from app_api.dependencies import CursorDep, LimitDep, SessionDep
from app_api.features.jobs import service
from app_api.features.jobs.schemas import JobDetail, JobPage, Name
from app_api.problems import problem_responses
from app_api.scopes import Scoped
from app_auth.errors import InvalidToken, Throttled
from app_auth.machines import InsufficientScope
from app_auth.permissions import OperatorRequired
from app_auth.principal import Caller
from app_db.errors import NotFound, Unauthenticated
from app_db.jobs.control import JobIsFinal
from app_db.jobs.filters import JobFilter
from app_db.models import JobState
from app_db.outage import DatabaseUnavailable

OF_CALLERS: Final = (Unauthenticated, InvalidToken, InsufficientScope, Throttled, DatabaseUnavailable)

router = APIRouter(prefix="/jobs", tags=["jobs"], responses=problem_responses(*OF_CALLERS))

ReaderDep = Annotated[Caller, Depends(Scoped("jobs:read"))]
WriterDep = Annotated[Caller, Depends(Scoped("jobs:write"))]


@router.get("", responses=problem_responses(InsufficientScope, OperatorRequired))
async def list_jobs(
    caller: ReaderDep,
    session: SessionDep,
    *,
    after: CursorDep,
    limit: LimitDep = 20,
    state: JobState | None = None,
    kind: Name | None = None,
    queue: Name | None = None,
    everybody: Annotated[bool, Query(alias="all")] = False,
) -> JobPage:
    """List the caller's jobs, newest first; with `all=true` an operator lists everybody's."""
    job_filter = JobFilter(state=state, kind=kind, queue=queue)
    page = await service.find(session, caller, job_filter, everybody=everybody, after=after, limit=limit)
    return JobPage.model_validate(page)


@router.get("/{job_id}", responses=problem_responses(NotFound))
async def read_job(job_id: UUID, caller: ReaderDep, session: SessionDep) -> JobDetail:
    """Show one job of the caller, or any to an operator, with its progress, result and errors."""
    return await service.show(session, caller, job_id)


@router.post("/{job_id}/cancel", responses=problem_responses(NotFound, JobIsFinal))
async def cancel_job(job_id: UUID, caller: WriterDep, session: SessionDep) -> JobDetail:
    """Cancel a job of the caller, or any for an operator: at once if it waits, else it is asked to end.

    A job that runs in one transaction cannot be stopped: it completes, or is not tried again. May be repeated.
    """
    return await service.cancel(session, caller, job_id)
