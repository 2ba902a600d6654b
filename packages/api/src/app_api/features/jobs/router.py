"""The jobs that the caller has started."""

from uuid import UUID

from fastapi import APIRouter

from app_api.dependencies import CursorDep, LimitDep, PrincipalDep, SessionDep
from app_api.features.jobs.schemas import JobPage, JobRead
from app_api.problems import problem_responses
from app_auth.errors import InvalidToken
from app_db.errors import NotFound, Unauthenticated
from app_db.outage import DatabaseUnavailable
from app_db.repositories.jobs import JobRepository

router = APIRouter(
    prefix="/jobs", tags=["jobs"], responses=problem_responses(Unauthenticated, InvalidToken, DatabaseUnavailable)
)


@router.get("")
async def list_jobs(principal: PrincipalDep, session: SessionDep, after: CursorDep, limit: LimitDep = 20) -> JobPage:
    """List the caller's jobs, newest first."""
    page = await JobRepository(session).owned_by(principal.user_id, after=after, limit=limit)
    return JobPage.model_validate(page)


@router.get("/{job_id}", responses=problem_responses(NotFound))
async def read_job(job_id: UUID, principal: PrincipalDep, session: SessionDep) -> JobRead:
    """Show one job of the caller, with its progress and result."""
    job = await JobRepository(session).get_owned(job_id, owner_id=principal.user_id)
    if job is None:
        raise NotFound
    return JobRead.model_validate(job)
