"""Limits of kinds: how many of its jobs run at once or in a time, and another limit while workers run."""

from collections.abc import Collection
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
from app_api.features.jobs import limits
from app_api.features.jobs.people import people
from app_db import Session
from app_db.jobs import limit_control
from app_db.jobs.bounds import INTEGER

router = APIRouter()

LIMITS: Final = f"{ROOT}/limits"
LINK = Link("Limits", LIMITS, order=25)
DONE = {
    "limit-set": "The limit holds from now on, for jobs that wait too.",
    "limit-reset": "The limit in the code holds again.",
}


class KindForm(BaseModel, extra="forbid"):
    """Which kind; in the form and not in the address, because its name may hold anything."""

    kind: Annotated[str, Field(max_length=200)]


class KindLimitForm(KindForm):
    """A limit; what is left empty is none."""

    running: Annotated[int | None, BeforeValidator(lambda value: value or None), Field(ge=1, lt=INTEGER)] = None
    rate: Annotated[str | None, BeforeValidator(lambda value: value or None), Field(max_length=20)] = None


@router.get("/limits")
async def limits_page(page: PageDep, session: SessionDep) -> HTMLResponse:
    """Show the limit of each kind that has one in the code."""
    return page.render("limits.html", **await _shown(session), problem=None)


@router.post("/limits/set")
async def set_limit(
    form: Annotated[KindLimitForm, Form()], page: PageDep, viewer: ViewerDep, session: SessionDep, *, client: ClientDep
) -> RedirectResponse:
    """Let another limit hold than the one in the code."""
    page.on_error("limits.html", **await _shown(session))
    await limits.set_limit(session, form.kind, running=form.running, rate=form.rate, principal=viewer, client=client)
    return see_other(f"{LIMITS}?done=limit-set")


@router.post("/limits/reset")
async def reset_limit(
    form: Annotated[KindForm, Form()], page: PageDep, viewer: ViewerDep, session: SessionDep, *, client: ClientDep
) -> RedirectResponse:
    """Let the limit in the code hold again."""
    page.on_error("limits.html", **await _shown(session))
    await limits.reset_limit(session, form.kind, principal=viewer, client=client)
    return see_other(f"{LIMITS}?done=limit-reset")


async def _shown(session: Session) -> dict[str, Any]:  # Any: the template's
    rows = await limit_control.limits(session)
    return {"limits": rows, "people": await people(session, {row.set_by for row in rows if row.set_by})}


async def read_limits(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the limits, for all that look at them."""
    return dict.fromkeys(watched, await _shown(session))


LIVE = {"limits": Fragment("limits_live.html", read_limits)}
