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
from app_db.models import JobState
from app_db.repositories.job_views import JobBrief, WorkerOverview
from app_db.repositories.jobs import JobRepository

router = APIRouter()

LINK = Link("Workers", "/console/workers", order=40)
MOST: Final = 200
"""How many jobs are listed below their workers."""


@router.get("/workers")
async def workers_page(page: PageDep, session: SessionDep) -> HTMLResponse:
    """Show the workers that have not signed off, killed ones too, each with the jobs that it has in hand."""
    return page.render("operators/workers.html", **await _shown(session))


async def _shown(session: Session) -> dict[str, Any]:  # Any: the template's
    jobs = JobRepository(session)
    workers = await jobs.workers()
    held = [job_id for worker in workers for job_id in worker.held_job_ids]
    found = await jobs.briefs(held[:MOST])
    in_hand = {worker.id: [job for job in found.values() if _has(worker, job)] for worker in workers}
    return {"workers": workers, "in_hand": in_hand, "more": max(0, len(held) - MOST)}


def _has(worker: WorkerOverview, job: JobBrief) -> bool:
    """Return whether it has the job still: a heartbeat later it may have ended, or be with another worker."""
    if job.id not in worker.held_job_ids:
        return False
    is_leased = job.state is JobState.EXECUTING and job.worker_id == worker.id
    return is_leased or job.state is JobState.DISPATCHED  # in tx mode it shows no more until it has ended


async def read_workers(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the workers, for all that look at them."""
    shown = await _shown(session)
    return dict.fromkeys(watched, shown)


LIVE = {"workers": Fragment("operators/workers_live.html", read_workers)}
