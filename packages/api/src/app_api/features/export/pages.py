"""The export of all data about an account: started, watched, downloaded."""

from collections.abc import Collection
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse

from app_api.console.dependencies import PageDep, ViewerDep
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched, is_id
from app_api.console.paths import ROOT
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.export import service
from app_api.features.export.router import fetch_export
from app_db import Session
from app_db.features.export.payloads import AccountExport
from app_db.jobs.filters import JobFilter
from app_db.models import Job
from app_db.repositories.jobs import JobRepository

router = APIRouter()

EXPORT = f"{ROOT}/export"
LINK = Link("Export", EXPORT, order=81)


@router.get("/export")
async def export_page(page: PageDep, viewer: ViewerDep, session: SessionDep) -> HTMLResponse:
    """Show the newest export, and start another one."""
    mine = JobFilter(owner_id=viewer.user_id, kind=AccountExport.kind)
    newest = await JobRepository(session).matching(mine, after=None, limit=1)
    return page.render("export.html", job=next(iter(newest.items), None), problem=None)


@router.post("/export")
async def start_export(
    page: PageDep, viewer: ViewerDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Start an export, or find the one that is under way."""
    page.on_error("export.html", job=None)
    await service.request_export(auth, session, viewer, client=client)
    return see_other(EXPORT)


@router.get("/export/{job_id}/file")
async def download_export(job_id: UUID, viewer: ViewerDep, session: SessionDep, request: Request) -> StreamingResponse:
    """Send the file of a finished export."""
    return await fetch_export(job_id, viewer, session, request)


async def read_exports(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the jobs that their owners watch."""
    asked = {one: UUID(one.about) for one in watched if is_id(one.about)}
    jobs = {job.id: job for job in await JobRepository(session).among({*asked.values()})}
    contexts: dict[Watched, dict[str, Job]] = {}
    for one, job_id in asked.items():
        job = jobs.get(job_id)
        if job is None or job.owner_id != one.viewer_id:
            continue  # guard: test_nobody_watches_the_export_of_another
        contexts[one] = {"job": job}
    return contexts


LIVE = {"export": Fragment("export_state.html", read_exports)}
