"""Batches and chains: how far each is, which of its jobs failed, and what can be done with it as a whole."""

from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse

from app_api.console.dependencies import PageDep, ViewerDep, confirming
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched, is_id
from app_api.console.paths import ROOT
from app_api.console.rendering import Page
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, CursorDep, SessionDep
from app_api.features.jobs import batches
from app_db import Session
from app_db.errors import NotFound
from app_db.models import JobState
from app_db.repositories.job_batches import BatchState, JobBatchRepository

router = APIRouter()

BATCHES: Final = f"{ROOT}/batches"
LINK = Link("Batches", BATCHES, order=15)
PER_PAGE: Final = 25
SHOWN: Final = 10
"""How many of its jobs a page shows: the newest of each state that is worth a look."""
LOOKED_AT: Final = (JobState.DISCARDED, JobState.RETRYABLE, JobState.EXECUTING)
DONE = {
    "batch-cancelled": "What has not ended is cancelled, or asked to end.",
    "batch-retried": "A thousand of its failed jobs at most are due now.",
}


@router.get("/batches")
async def list_batches(page: PageDep, session: SessionDep, after: CursorDep) -> HTMLResponse:
    """List batches and chains, newest first."""
    found = await JobBatchRepository(session).page(owner_id=None, after=after, limit=PER_PAGE)
    return page.render("batches.html", found=found, after=after)


@router.get("/batches/{batch_id:uuid}")
async def batch_page(batch_id: UUID, page: PageDep, session: SessionDep) -> HTMLResponse:
    """Show how far a batch is, and its jobs that failed or run."""
    return page.render("batch.html", **await _shown(session, batch_id), problem=None)


@router.post("/batches/{batch_id:uuid}/cancel")
async def cancel_batch(batch_id: UUID, page: PageDep, viewer: ViewerDep, session: SessionDep) -> RedirectResponse:
    """Cancel what of it has not ended."""
    await _prepare(page, session, batch_id)
    await batches.cancel(session, viewer, batch_id)
    return see_other(f"{BATCHES}/{batch_id}?done=batch-cancelled")


@router.post("/batches/{batch_id:uuid}/retry")
async def retry_batch(
    batch_id: UUID, page: PageDep, viewer: ViewerDep, auth: AuthDep, session: SessionDep, *, client: ClientDep
) -> RedirectResponse:
    """Retry its jobs that failed or were cancelled."""
    await _prepare(page, session, batch_id)
    with confirming():
        await batches.retry(auth, session, viewer, batch_id, client=client)
    return see_other(f"{BATCHES}/{batch_id}?done=batch-retried")


async def _prepare(page: Page, session: Session, batch_id: UUID) -> None:
    """Let the page of the batch say why, if it refuses."""
    page.on_error("batch.html", **await _shown(session, batch_id))


async def _shown(session: Session, batch_id: UUID) -> dict[str, Any]:  # Any: the template's
    repository = JobBatchRepository(session)
    batch = await repository.get(batch_id, owner_id=None)
    if batch is None:
        raise NotFound
    return {
        "batch": batch,
        "jobs": await repository.newest_jobs(batch_id, LOOKED_AT, limit=SHOWN),
        "can_cancel": batch.state is BatchState.RUNNING,
        "can_retry": batch.discarded + batch.cancelled > 0,
    }


async def read_batches(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the batches that pages show, by two queries each."""
    ids = {one: UUID(one.about) for one in watched if is_id(one.about)}
    shown = {batch_id: await _shown_or_gone(session, batch_id) for batch_id in set(ids.values())}
    return {one: context for one, batch_id in ids.items() if (context := shown[batch_id])}


async def _shown_or_gone(session: Session, batch_id: UUID) -> dict[str, Any]:  # Any: the template's
    try:
        return await _shown(session, batch_id)
    except NotFound:
        return {}


LIVE = {"batch": Fragment("batch_live.html", read_batches)}
