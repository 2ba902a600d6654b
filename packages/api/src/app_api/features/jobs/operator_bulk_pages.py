"""What is done to many jobs at once: their number first, then the act, or the job that does it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import AwareDatetime, Field

from app_api.console.dependencies import PageDep, ViewerDep, confirming, get_fresh_viewer
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.jobs import service
from app_api.features.jobs.job_query import JobQuery, filter_of
from app_api.features.jobs.operator_pages import JOBS
from app_api.filters import Empty
from app_db import Session
from app_db.jobs.control import Action, FilterTooWide
from app_db.jobs.counting import count_all
from app_db.jobs.filters import JobFilter
from app_db.types import utcnow

router = APIRouter()

DONE = {
    "jobs-retried": "The jobs are due now.",
    "jobs-cancelled": "The jobs are cancelled, or asked to end.",
    "jobs-discarded": "The jobs are discarded.",
    "jobs-deleted": "The jobs are deleted.",
    "jobs-bulk": "This job does it. Its bar shows how far it is; cancel it, and the rest stays as it is.",
}
DONE_CODES: Final = {
    Action.RETRY: "jobs-retried",
    Action.CANCEL: "jobs-cancelled",
    Action.DISCARD: "jobs-discarded",
    Action.DELETE: "jobs-deleted",
}
DANGEROUS: Final = frozenset({Action.DISCARD, Action.DELETE})
MOST_COUNTED: Final = 1000
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class BulkQuery(JobQuery):
    """What to do, and with which jobs."""

    action: Action
    asked_at: Empty[Annotated[AwareDatetime, Field(ge=EARLIEST, le=LATEST)]] = None
    """When their number was shown; jobs that were enqueued later are left alone."""

    def list_query(self, **others: str) -> str:
        """Return the filter of the list, without what was ticked, as it stands in an address."""
        kept = self.model_dump(exclude={"action", "asked_at", "id"})
        return JobQuery.model_validate(kept).to_query(**others)


async def _filter_of(session: Session, query: BulkQuery) -> JobFilter:
    """Return the filter as it was when the number was shown.

    Raises:
        FilterTooWide: it is empty.
    """
    asked_at = query.asked_at or utcnow()
    job_filter = await filter_of(session, query, now=asked_at)
    if not job_filter.conditions():
        raise FilterTooWide
    before = min(job_filter.before or LATEST, asked_at)
    return replace(job_filter, before=before)


@router.get("/jobs/act")
async def confirm_act(
    page: PageDep, session: SessionDep, viewer: ViewerDep, auth: AuthDep, query: Annotated[BulkQuery, Query()]
) -> HTMLResponse:
    """Say how many jobs would be acted on, before anything is done."""
    if query.action in DANGEROUS:
        await get_fresh_viewer(viewer, auth, session)
    asked = query.model_copy(update={"asked_at": utcnow()})
    found = await count_all(session, await _filter_of(session, asked), query.action, most=MOST_COUNTED)
    return page.render("act.html", query=asked, found=found, at_once=service.AT_ONCE, problem=None)


@router.post("/jobs/act")
async def act(
    session: SessionDep, viewer: ViewerDep, auth: AuthDep, *, client: ClientDep, query: Annotated[BulkQuery, Form()]
) -> RedirectResponse:
    """Act on them, and lead back to the list; if they are many, lead to the job that does it."""
    if query.action in DANGEROUS:
        await get_fresh_viewer(viewer, auth, session)
    job_filter = await _filter_of(session, query)
    with confirming():
        job_id = await service.act_on_matching(auth, session, viewer, job_filter, query.action, client=client)
    if job_id is not None:
        return see_other(f"{JOBS}/{job_id}?done=jobs-bulk")
    return see_other(f"{JOBS}?{query.list_query(done=DONE_CODES[query.action])}")
