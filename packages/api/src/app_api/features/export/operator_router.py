"""Exports of the audit, for operators."""

from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from app_api.dependencies import AuthDep, ClientDep, OperatorDep, SessionDep
from app_api.features.export import service
from app_api.features.export.errors import ExportNotFound, ExportUnderWay
from app_api.features.export.files import file_of
from app_api.features.export.schemas import AuditExportCreate, JobAccepted
from app_api.problems import problem_responses
from app_api.response_fields import describe_fields
from app_auth.errors import InvalidToken, Throttled
from app_auth.permissions import OperatorRequired
from app_db import Database
from app_db.errors import Unauthenticated
from app_db.features.export.payloads import AuditExport
from app_db.outage import DatabaseUnavailable

router = APIRouter(
    prefix="/audit",
    tags=["audit: operators"],
    responses=problem_responses(Unauthenticated, InvalidToken, OperatorRequired, DatabaseUnavailable),
)


@router.post(
    "/exports",
    status_code=202,
    responses={202: {"headers": describe_fields(["Location"])}, **problem_responses(Throttled, ExportUnderWay)},
)
async def export_audit(
    body: AuditExportCreate, operator: OperatorDep, *, auth: AuthDep, session: SessionDep, client: ClientDep,
    response: Response,
) -> JobAccepted:  # fmt: skip
    """Start to write the events that match into a file of comma-separated values, newest first.

    The job's result says where it can be fetched. The audit says who asked for what.
    """
    job_id = await service.request_audit_export(auth, session, operator, body.to_filter(), client=client)
    response.headers["Location"] = f"/jobs/{job_id}"
    return JobAccepted(job_id=job_id)


@router.get(
    "/exports/{job_id}",
    response_class=Response,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The events, as a file"},
        **problem_responses(ExportNotFound),
    },
)
async def audit_file(job_id: UUID, operator: OperatorDep, session: SessionDep, request: Request) -> StreamingResponse:
    """Return the file that this job has written for the bearer; for a day, and only the newest."""
    sizes = await service.sizes_of(session, operator, job_id, kind=AuditExport.kind)
    database: Database = request.state.database
    user_id, media_type = operator.user_id, "text/csv; charset=utf-8; header=present"
    return file_of(database, job_id, user_id=user_id, sizes=sizes, name="audit.csv", media_type=media_type)
