"""Queues: what waits in each, and who may run how much of it."""

from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, BeforeValidator, Field

from app_api.console.dependencies import PageDep, ViewerDep
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched
from app_api.console.paths import ROOT
from app_api.console.responses import see_other
from app_api.dependencies import ClientDep, SessionDep
from app_api.features.jobs import service
from app_api.features.jobs.people import people
from app_db import Session
from app_db.jobs.bounds import INTEGER
from app_db.repositories.jobs import JobRepository

router = APIRouter()

QUEUES: Final = f"{ROOT}/queues"
LINK = Link("Queues", QUEUES, order=20)
DONE = {
    "queue-paused": "The queue is paused: no more of its jobs start, within three seconds. Those that run continue.",
    "queue-resumed": "The queue is open again.",
    "queue-limited": "The limit holds from now on.",
}


class Steering(StrEnum):
    """What may be done to a queue without another field."""

    PAUSE = "pause"
    RESUME = "resume"


STEERING: Final = {
    Steering.PAUSE: (service.pause, "queue-paused"),
    Steering.RESUME: (service.resume, "queue-resumed"),
}


class QueueForm(BaseModel, extra="forbid"):
    """Which queue; in the form and not in the address, because its name may hold anything."""

    queue: Annotated[str, Field(max_length=200)]


class LimitForm(QueueForm):
    """How many jobs may run at once; without a number, any number."""

    max_running: Annotated[int | None, BeforeValidator(lambda value: value or None), Field(ge=1, lt=INTEGER)] = None


@router.get("/queues")
async def queues_page(page: PageDep, session: SessionDep) -> HTMLResponse:
    """Show each queue that has open jobs, a worker or settings."""
    return page.render("queues.html", **await _shown(session))


@router.post("/queues/limit")
async def limit_queue(
    form: Annotated[LimitForm, Form()], viewer: ViewerDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Let so many of its jobs run at once, over all workers."""
    await service.limit(session, form.queue, form.max_running, principal=viewer, client=client)
    return see_other(f"{QUEUES}?done=queue-limited")


@router.post("/queues/{action}")
async def pause_or_resume_queue(
    action: Steering, form: Annotated[QueueForm, Form()], viewer: ViewerDep, session: SessionDep, client: ClientDep
) -> RedirectResponse:
    """Start no more of its jobs, or start them again."""
    act, done = STEERING[action]
    await act(session, form.queue, principal=viewer, client=client)
    return see_other(f"{QUEUES}?done={done}")


async def _shown(session: Session) -> dict[str, Any]:  # Any: the template's
    queues = await JobRepository(session).queues()
    paused_by = {queue.paused_by for queue in queues if queue.paused_by}
    return {"queues": queues, "people": await people(session, paused_by)}


async def read_queues(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the queues, for all that look at them."""
    return dict.fromkeys(watched, await _shown(session))


LIVE = {"queues": Fragment("queues_live.html", read_queues)}
