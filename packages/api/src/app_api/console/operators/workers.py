"""Worker processes: which live, and what they have in hand."""

from collections.abc import Collection
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from app_api.console.dependencies import PageDep
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched
from app_api.dependencies import SessionDep
from app_db import Session
from app_db.jobs.filters import JobFilter
from app_db.models import JobState
from app_db.repositories.jobs import JobRepository

router = APIRouter()

LINK = Link("Workers", "/console/workers", order=40)
MOST: Final = 200
"""How many running jobs are listed below their workers."""


@router.get("/workers")
async def workers_page(page: PageDep, session: SessionDep) -> HTMLResponse:
    """Show the workers that have not signed off, killed ones too, each with its running jobs in lease mode."""
    return page.render("operators/workers.html", **await _shown(session))


async def _shown(session: Session) -> dict[str, Any]:  # Any: the template's
    jobs = JobRepository(session)
    running = await jobs.matching(JobFilter(state=JobState.EXECUTING), after=None, limit=MOST)
    return {"workers": await jobs.workers(), "running": running.items}


async def read_workers(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the workers, for all that look at them."""
    shown = await _shown(session)
    return dict.fromkeys(watched, shown)


LIVE = {"workers": Fragment("operators/workers_live.html", read_workers)}
