"""Crons: when each ticks, what became of its last tick, and a job of it right now."""

from collections.abc import Collection
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from app_api.console.dependencies import PageDep, ViewerDep
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched
from app_api.console.paths import ROOT
from app_api.console.responses import see_other
from app_api.dependencies import ClientDep, SessionDep
from app_api.features.jobs import service
from app_db import Session
from app_db.repositories.jobs import JobRepository

router = APIRouter()

CRONS: Final = f"{ROOT}/crons"
LINK = Link("Crons", CRONS, order=30)
DONE = {"cron-requested": "A worker enqueues the job within five seconds."}


class CronForm(BaseModel, extra="forbid"):
    """Which cron; in the form and not in the address, because its name may hold anything."""

    cron: Annotated[str, Field(max_length=200)]


@router.get("/crons")
async def crons_page(page: PageDep, session: SessionDep) -> HTMLResponse:
    """Show each cron that a worker has ever had."""
    return page.render("crons.html", **await _shown(session), problem=None)


@router.post("/crons/run")
async def run_cron(
    form: Annotated[CronForm, Form()], page: PageDep, viewer: ViewerDep, session: SessionDep, *, client: ClientDep
) -> RedirectResponse:
    """Ask the workers for a job of it; if there is none that has the cron, the page says so."""
    page.on_error("crons.html", **await _shown(session))
    await service.run_cron(session, form.cron, principal=viewer, client=client)
    return see_other(f"{CRONS}?done=cron-requested")


async def _shown(session: Session) -> dict[str, Any]:  # Any: the template's
    jobs = JobRepository(session)
    crons = await jobs.crons()
    last_jobs = await jobs.briefs([cron.last_job_id for cron in crons if cron.last_job_id])
    return {"crons": crons, "last_jobs": last_jobs}


async def read_crons(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the crons, for all that look at them, by two queries."""
    return dict.fromkeys(watched, await _shown(session))


LIVE = {"crons": Fragment("crons_live.html", read_crons)}
