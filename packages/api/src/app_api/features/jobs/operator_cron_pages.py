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
from app_api.features.jobs import cron_service
from app_api.features.jobs.people import people
from app_db import Session
from app_db.repositories.jobs import JobRepository

router = APIRouter()

CRONS: Final = f"{ROOT}/crons"
LINK = Link("Crons", CRONS, order=30)
DONE = {
    "cron-requested": "The job is enqueued within five seconds.",
    "cron-paused": "The cron is paused: its ticks become no jobs. Those that are enqueued go on.",
    "cron-resumed": "The cron goes on with its next tick. What it missed during the pause is not made up.",
}


class CronForm(BaseModel, extra="forbid"):
    """Which cron; in the form and not in the address, because its name may hold anything."""

    cron: Annotated[str, Field(max_length=200)]


@router.get("/crons")
async def crons_page(page: PageDep, session: SessionDep) -> HTMLResponse:
    """Show each cron that a worker has ever had, and those of the table."""
    return page.render("crons.html", **await _shown(session), problem=None)


@router.post("/crons/run")
async def run_cron(
    form: Annotated[CronForm, Form()], page: PageDep, viewer: ViewerDep, session: SessionDep, *, client: ClientDep
) -> RedirectResponse:
    """Enqueue a job of it, or ask the workers for one; if it cannot be, the page says why."""
    page.on_error("crons.html", **await _shown(session))
    await cron_service.run(session, form.cron, principal=viewer, client=client)
    return see_other(f"{CRONS}?done=cron-requested")


@router.post("/crons/pause")
async def pause_cron(
    form: Annotated[CronForm, Form()], page: PageDep, viewer: ViewerDep, session: SessionDep, *, client: ClientDep
) -> RedirectResponse:
    """Let no more of its ticks become jobs."""
    page.on_error("crons.html", **await _shown(session))
    await cron_service.pause(session, form.cron, principal=viewer, client=client)
    return see_other(f"{CRONS}?done=cron-paused")


@router.post("/crons/resume")
async def resume_cron(
    form: Annotated[CronForm, Form()], page: PageDep, viewer: ViewerDep, session: SessionDep, *, client: ClientDep
) -> RedirectResponse:
    """Go on with its next tick."""
    page.on_error("crons.html", **await _shown(session))
    await cron_service.resume(session, form.cron, principal=viewer, client=client)
    return see_other(f"{CRONS}?done=cron-resumed")


async def _shown(session: Session) -> dict[str, Any]:  # Any: the template's
    jobs = JobRepository(session)
    crons = await cron_service.all_crons(session)
    last_jobs = await jobs.briefs([cron.last_job_id for cron in crons if cron.last_job_id])
    paused_by = {cron.schedule.paused_by for cron in crons if cron.schedule and cron.schedule.paused_by}
    return {"crons": crons, "last_jobs": last_jobs, "people": await people(session, paused_by)}


async def read_crons(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the crons, for all that look at them, by four queries at most."""
    return dict.fromkeys(watched, await _shown(session))


LIVE = {"crons": Fragment("crons_live.html", read_crons)}
