"""Exports of all data about the bearer."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.export import service
from app_api.features.export.errors import ExportNotFound
from app_api.features.export.files import file_of
from app_api.features.export.schemas import JobAccepted
from app_api.idempotency import PROBLEMS as REPETITION
from app_api.idempotency import IdempotentDep
from app_api.problems import problem_responses
from app_api.response_fields import describe_fields
from app_api.scopes import Scoped
from app_auth.errors import InvalidToken, Throttled
from app_auth.machines import InsufficientScope
from app_auth.principal import Caller
from app_db import Database
from app_db.errors import Unauthenticated
from app_db.features.export.payloads import AccountExport
from app_db.outage import DatabaseUnavailable

router = APIRouter(
    prefix="/auth/me",
    tags=["auth"],
    responses=problem_responses(DatabaseUnavailable, Unauthenticated, InvalidToken, InsufficientScope, Throttled),
)

ExporterDep = Annotated[Caller, Depends(Scoped("account:export"))]


@router.post(
    "/export",
    status_code=202,
    operation_id="auth_export_me",
    responses={202: {"headers": describe_fields(["Location"])}, **problem_responses(*REPETITION)},
)
async def export_current_user(
    caller: ExporterDep, *, auth: AuthDep, session: SessionDep, client: ClientDep, response: Response, _: IdempotentDep
) -> JobAccepted:
    """Start to collect all that we hold about the bearer, or find the collection that is under way.

    The job's result says where the export can be fetched.
    """
    job_id = await service.request_export(auth, session, caller, client=client)
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
async def fetch_export(job_id: UUID, caller: ExporterDep, session: SessionDep, request: Request) -> StreamingResponse:
    """Return the export of the bearer that this job has collected, as a file; for a day, and only the newest."""
    sizes = await service.sizes_of(session, caller, job_id, kind=AccountExport.kind)
    database: Database = request.state.database
    return file_of(
        database, job_id, user_id=caller.user_id, sizes=sizes, name="export.json", media_type="application/json"
    )
