"""One job: what it is, what became of it, and what can be done with it."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from app_api.console.dependencies import FreshViewerDep, PageDep, ViewerDep, confirming
from app_api.console.formats import pretty
from app_api.console.fragments import Contexts, Fragment, Watched, is_id
from app_api.console.rendering import Page
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.jobs import service
from app_api.features.jobs.operator_pages import JOBS
from app_api.features.jobs.reruns import PAYLOADS, rerun
from app_api.features.jobs.schemas import JobDetail
from app_db import Session
from app_db.errors import Invalid
from app_db.jobs import control
from app_db.jobs.control import QUEUED, RETRIABLE
from app_db.jobs.encryption import HIDDEN
from app_db.jobs.rescheduling import reschedule
from app_db.models import FINAL_STATES, OPEN_STATES, JobState
from app_db.repositories.jobs import JobRepository
from app_db.repositories.users import UserRepository

router = APIRouter()

DONE = {
    "job-cancelled": "The job is cancelled, or asked to end.",
    "job-discarded": "The job is discarded.",
    "job-enqueued": "This is the new job.",
    "job-moved": "The job runs at that time.",
    "job-retried": "The job is due now.",
}
MOVABLE: Final = frozenset({JobState.SCHEDULED, JobState.AVAILABLE, JobState.RETRYABLE})
LARGEST_PAYLOAD: Final = 300_000
"""Characters: a form of a browser has three bytes for each quote, and a field of it at most a million."""


class InvalidRunAt(Invalid):
    """Give a day and a time in UTC, such as 2026-12-24T18:00, up to the year 9998."""

    code = "invalid_run_at"


async def _shown(page: Page, session: Session, job_id: UUID) -> dict[str, Any]:  # Any: the template's
    """Return what the page of a job shows."""
    assert page.viewer is not None, "pages of operators have one"
    job = await service.show(session, page.viewer, job_id)
    emails = await UserRepository(session).emails_of([job.owner_id] if job.owner_id else [])
    can_move = job.state in MOVABLE
    return {**_acts_on(job, emails), "can_move": can_move, **_committed(job), "errors": job.errors}


def _committed(job: JobDetail) -> dict[str, Any]:  # Any: the template's
    """Return what the job's attempts have committed: its result, and what they would go on with."""
    assert job.internals is not None, "operators see them"
    return {"result": job.result, "steps": job.internals.steps, "cursor": job.internals.cursor}


def _acts_on(job: JobDetail, emails: Mapping[UUID, str]) -> dict[str, Any]:  # Any: the template's
    """Return the job, whose it is, and what can be done about it."""
    return {
        "job": job,
        "owner": emails.get(job.owner_id) if job.owner_id else None,
        "can_retry": job.state in RETRIABLE,
        "can_cancel": job.state in OPEN_STATES and not job.cancel_requested,
        "can_discard": job.state in QUEUED,
        "has_ended": job.state in FINAL_STATES,
        "can_edit": job.kind in PAYLOADS,
    }


@router.get("/jobs/{job_id:uuid}")
async def job_page(job_id: UUID, page: PageDep, session: SessionDep) -> HTMLResponse:
    """Show a job with its payload, result, progress and errors."""
    return page.render("job.html", **await _shown(page, session, job_id), problem=None)


async def _act(
    page: Page, session: Session, job_id: UUID, act: Callable[[Session, UUID], Awaitable[None]]
) -> RedirectResponse:
    """Do it and show the job; if the job refuses, its page says why."""
    page.on_error("job.html", **await _shown(page, session, job_id))
    await act(session, job_id)
    return see_other(f"{JOBS}/{job_id}?done={DONE_CODES[act]}")


DONE_CODES: Final[Mapping[Any, str]] = {  # Any: functions
    control.cancel: "job-cancelled",
    control.discard: "job-discarded",
}


@router.post("/jobs/{job_id:uuid}/retry")
async def retry_job(
    job_id: UUID, page: PageDep, viewer: ViewerDep, auth: AuthDep, session: SessionDep
) -> RedirectResponse:
    """Make it due now."""
    page.on_error("job.html", **await _shown(page, session, job_id))
    with confirming():
        await service.retry(auth, session, viewer, job_id)
    return see_other(f"{JOBS}/{job_id}?done=job-retried")


@router.post("/jobs/{job_id:uuid}/cancel")
async def cancel_job(job_id: UUID, page: PageDep, session: SessionDep) -> RedirectResponse:
    """Cancel it, or ask it to end."""
    return await _act(page, session, job_id, control.cancel)


@router.post("/jobs/{job_id:uuid}/discard")
async def discard_job(job_id: UUID, page: PageDep, session: SessionDep, _: FreshViewerDep) -> RedirectResponse:
    """Give it up."""
    return await _act(page, session, job_id, control.discard)


@router.post("/jobs/{job_id:uuid}/run-at")
async def move_job(
    job_id: UUID, page: PageDep, session: SessionDep, run_at: Annotated[str, Form(max_length=40)] = ""
) -> RedirectResponse:
    """Let it run at another time, which is in UTC."""
    page.on_error("job.html", **await _shown(page, session, job_id))
    try:
        await reschedule(session, job_id, run_at=datetime.fromisoformat(run_at).replace(tzinfo=UTC))
    except ValueError:
        raise InvalidRunAt from None
    return see_other(f"{JOBS}/{job_id}?done=job-moved")


class NewJob(BaseModel, extra="forbid"):
    """A payload as text, for a job like another one."""

    payload: Annotated[str, Field(max_length=LARGEST_PAYLOAD)] = ""
    keeps_owner: bool = False


@router.get("/jobs/{job_id:uuid}/again")
async def again_page(job_id: UUID, page: PageDep, viewer: ViewerDep, session: SessionDep) -> HTMLResponse:
    """Show the payload, to be edited."""
    job = await service.show(session, viewer, job_id)
    assert job.internals is not None, "an operator sees them"
    is_hidden = job.internals.payload == HIDDEN
    payload = "" if is_hidden else pretty(job.internals.payload)
    return page.render("again.html", job=job, payload=payload, is_hidden=is_hidden, problem=None)


@router.post("/jobs/{job_id:uuid}/again")
async def run_again(
    job_id: UUID,
    page: PageDep,
    viewer: ViewerDep,
    session: SessionDep,
    form: Annotated[NewJob, Form()],
    *,
    client: ClientDep,
) -> RedirectResponse:
    """Enqueue a new job of the same kind, in the same queue; its class checks the payload. The first one stays."""
    job = await service.show(session, viewer, job_id)
    assert job.internals is not None, "an operator sees them"
    is_hidden = job.internals.payload == HIDDEN
    page.on_error("again.html", job=job, payload="" if is_hidden else form.payload, is_hidden=is_hidden)
    payload = None if is_hidden and not form.payload.strip() else form.payload
    new_id = await rerun(session, viewer, job_id, payload=payload, keeps_owner=form.keeps_owner, client=client)
    return see_other(f"{JOBS}/{new_id}?done=job-enqueued")


async def read_jobs(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the jobs that operators look at, by four queries."""
    asked = {one: UUID(one.about) for one in watched if is_id(one.about)}
    jobs = JobRepository(session)
    found = {job.id: job for job in await jobs.emptied({*asked.values()})}
    errors, ending = await jobs.errors_among(set(found)), await jobs.asked_to_end(set(found))
    emails = await UserRepository(session).emails_of({job.owner_id for job in found.values() if job.owner_id})
    shown = {
        id_: JobDetail.of(job, errors.get(id_, ()), cancel_requested=id_ in ending, for_operator=True)
        for id_, job in found.items()
    }
    return {one: _acts_on(shown[job_id], emails) for one, job_id in asked.items() if job_id in shown}


async def read_results(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the results of these jobs, which may be large, and so are sent when they change only."""
    asked = {one: UUID(one.about) for one in watched if is_id(one.about)}
    jobs = await JobRepository(session).among({*asked.values()})
    shown = [JobDetail.of(job, (), cancel_requested=False, for_operator=True) for job in jobs]
    found = {job.id: _committed(job) for job in shown}
    return {one: found[job_id] for one, job_id in asked.items() if job_id in found}


async def read_errors(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the errors of these jobs with their traces, which are sent when there is another one."""
    asked = {one: UUID(one.about) for one in watched if is_id(one.about)}
    errors = await JobRepository(session).errors_among({*asked.values()}, with_traces=True)
    return {one: {"errors": errors.get(job_id, ())} for one, job_id in asked.items()}


async def read_acts(session: Session, watched: Collection[Watched]) -> Contexts:
    """Say of each page that shows a job whether its buttons fit no longer: they stay, so that nobody clicks wrong."""
    shown = {one: one.about.partition(",") for one in watched}
    asked = {one: (UUID(id_), state) for one, (id_, _, state) in shown.items() if is_id(id_) and state in set(JobState)}
    jobs = await JobRepository(session).briefs({job_id for job_id, _ in asked.values()})
    return {
        one: {"job_id": job_id, "has_changed": _fitting(jobs[job_id].state) != _fitting(JobState(state))}
        for one, (job_id, state) in asked.items()
        if job_id in jobs
    }


def _fitting(state: JobState) -> list[bool]:
    """Return which acts fit a job in this state."""
    return [state in states for states in (RETRIABLE, OPEN_STATES, QUEUED, FINAL_STATES, MOVABLE)]


LIVE = {
    "job": Fragment("job_live.html", read_jobs),
    "job-acts": Fragment("job_acts.html", read_acts),
    "job-errors": Fragment("job_errors.html", read_errors),
    "job-result": Fragment("job_result.html", read_results),
}
