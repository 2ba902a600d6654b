"""Exports of all data about the bearer."""

from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from app_api.dependencies import AuthDep, PrincipalDep, SessionDep
from app_api.features.export import service
from app_api.features.export.errors import ExportNotFound
from app_api.features.export.schemas import JobAccepted
from app_api.problems import problem_responses
from app_api.response_fields import describe_fields
from app_auth.errors import InvalidToken, Throttled
from app_db import Database
from app_db.errors import Unauthenticated
from app_db.features.export.repository import ExportRepository
from app_db.outage import DatabaseUnavailable

router = APIRouter(
    prefix="/auth/me", tags=["auth"], responses=problem_responses(DatabaseUnavailable, Unauthenticated, InvalidToken)
)


@router.post(
    "/export",
    status_code=202,
    operation_id="auth_export_me",
    responses={202: {"headers": describe_fields(["Location"])}, **problem_responses(Throttled)},
)
async def export_current_user(
    principal: PrincipalDep, auth: AuthDep, session: SessionDep, response: Response
) -> JobAccepted:
    """Start to collect all that we hold about the bearer, or find the collection that is under way.

    The job's result says where the export can be fetched.
    """
    job_id = await service.request_export(auth, session, principal)
    response.headers["Location"] = f"/jobs/{job_id}"
    return JobAccepted(job_id=job_id)


@router.get(
    "/exports/{job_id}",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "The export, as a file"},
        **problem_responses(ExportNotFound),
    },
)
async def fetch_export(
    job_id: UUID, principal: PrincipalDep, session: SessionDep, request: Request
) -> StreamingResponse:
    """Return the export of the bearer that this job has collected, as a file; for a day, and only the newest."""
    sizes = await service.sizes_of(session, principal, job_id)
    headers = {"Content-Length": str(sum(sizes)), "Content-Disposition": 'attachment; filename="export.json"'}
    parts = _parts(request.state.database, job_id, user_id=principal.user_id, count=len(sizes))
    return StreamingResponse(parts, media_type="application/json", headers=headers)


async def _parts(database: Database, job_id: UUID, *, user_id: UUID, count: int) -> AsyncIterator[bytes]:
    """Yield the pieces. Each is read by itself, so that a slow client keeps no connection to the database."""
    for number in range(count):
        async with database.unit_of_work(read_only=True) as session:
            part = await ExportRepository(session).part_of(job_id, number, user_id=user_id)
        if part is None:
            return  # shorter than its Content-Length, so that no client takes it for complete
        yield part
