"""The audit as a file: asked for with the filter of its page, followed, and downloaded by the operator who asked."""

from collections.abc import Collection
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse

from app_api.console.dependencies import PageDep, ViewerDep
from app_api.console.fragments import Contexts, Fragment, Watched, is_id
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.accounts.operator_audit_pages import AUDIT, AuditQuery
from app_api.features.export import service
from app_api.features.export.operator_router import audit_file
from app_auth.principal import Principal
from app_db import Session
from app_db.features.export.payloads import AuditExport
from app_db.jobs.filters import JobFilter
from app_db.models import Job
from app_db.repositories.jobs import JobRepository

router = APIRouter()

AUDIT_EXPORT: Final = f"{AUDIT}/export"


async def _newest(session: Session, viewer: Principal) -> Job | None:
    mine = JobFilter(owner_id=viewer.user_id, kind=AuditExport.kind)
    return next(iter((await JobRepository(session).matching(mine, after=None, limit=1)).items), None)


@router.get("/audit/export")
async def audit_export_page(page: PageDep, viewer: ViewerDep, session: SessionDep) -> HTMLResponse:
    """Show the newest file of who is signed in."""
    return page.render("audit_export.html", job=await _newest(session, viewer), problem=None)


@router.post("/audit/export")
async def start_audit_export(
    query: Annotated[AuditQuery, Form()], page: PageDep, *, viewer: ViewerDep, auth: AuthDep, session: SessionDep,
    client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Let a job write the events that match into a file."""
    page.on_error("audit_export.html", job=await _newest(session, viewer))
    await service.request_audit_export(auth, session, viewer, await query.to_filter(session), client=client)
    return see_other(AUDIT_EXPORT)


@router.get("/audit/export/{job_id:uuid}/file")
async def download_audit(job_id: UUID, viewer: ViewerDep, session: SessionDep, request: Request) -> StreamingResponse:
    """Send the file."""
    return await audit_file(job_id, viewer, session, request)


async def read_audit_exports(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the jobs that operators look at."""
    asked = {one: UUID(one.about) for one in watched if is_id(one.about)}
    jobs = {job.id: job for job in await JobRepository(session).among({*asked.values()})}
    return {one: {"job": jobs[job_id]} for one, job_id in asked.items() if job_id in jobs}


LIVE = {"audit-export": Fragment("audit_export_state.html", read_audit_exports)}
