"""Crons of the table in the console: forms to add and change one, and to delete it."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from app_api.console.dependencies import FreshViewerDep, PageDep, ViewerDep
from app_api.console.formats import pretty
from app_api.console.paths import ROOT
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.jobs import cron_service
from app_api.features.jobs.cron_schemas import CronText
from app_db.jobs.bounds import INTEGER, SMALLINT
from app_db.jobs.schedule_values import ScheduleValues
from app_db.jobs.timetables import CatchUp
from app_db.repositories.job_views import CronOverview

router = APIRouter()

CRONS: Final = f"{ROOT}/crons"
DONE = {
    "cron-added": "The cron is added. Workers know it within five seconds; it begins with its next tick.",
    "cron-changed": "The cron is changed. Its next tick is that of the new values.",
    "cron-deleted": "The cron is deleted. Its jobs stay.",
}
CATCHING_UP: Final = {
    CatchUp.ONE: "one job for all of them",
    CatchUp.ALL: "a job for each, of the last week",
    CatchUp.SKIP: "no job",
}


class CronValuesForm(BaseModel, extra="forbid"):
    """A cron as it was typed; the table refuses what is not acceptable."""

    name: CronText = ""
    kind: CronText = ""
    payload: str = "{}"
    expression: CronText = ""
    timezone: CronText = "UTC"
    queue: CronText = "default"
    priority: Annotated[int, Field(ge=-SMALLINT, lt=SMALLINT)] = 2
    catch_up: CatchUp = CatchUp.ONE
    alone: bool = False

    def to_values(self) -> ScheduleValues:
        """Return what the table keeps."""
        return ScheduleValues(
            self.kind,
            self.expression,
            self.payload,
            self.timezone,
            self.queue,
            self.priority,
            self.catch_up,
            overlap=not self.alone,
        )


class CronChangeForm(CronValuesForm):
    """The new values, and the version that they replace."""

    version: Annotated[int, Field(ge=1, lt=INTEGER)]


class CronNameForm(BaseModel, extra="forbid"):
    """Which cron; its name may hold anything."""

    cron: CronText


def _choices() -> dict[str, Any]:  # Any: the template's
    return {"kinds": sorted(cron_service.KINDS), "catching_up": CATCHING_UP}


def _form_of(cron: CronOverview) -> CronChangeForm:
    """Return the form with the values of a cron of the table."""
    assert cron.schedule is not None, "crons in code have no form"
    own = cron.schedule
    return CronChangeForm.model_construct(
        **{name: getattr(cron, name) for name in ("name", "kind", "expression", "timezone", "queue")},
        payload=pretty(own.payload),
        priority=own.priority,
        catch_up=own.catch_up,
        alone=not own.overlap,
        version=own.version,
    )


@router.get("/crons/add")
async def add_page(page: PageDep) -> HTMLResponse:
    """Show an empty form."""
    return page.render("cron_form.html", form=CronValuesForm(), is_new=True, **_choices(), problem=None)


@router.post("/crons/add")
async def add_cron(
    form: Annotated[CronValuesForm, Form()], page: PageDep, viewer: ViewerDep, session: SessionDep, *, client: ClientDep
) -> RedirectResponse:
    """Add it to the table; what is not acceptable is said beside what was typed."""
    page.on_error("cron_form.html", form=form, is_new=True, **_choices())
    await cron_service.add(session, form.name, form.to_values(), principal=viewer, client=client)
    return see_other(f"{CRONS}?done=cron-added")


@router.get("/crons/change")
async def change_page(page: PageDep, session: SessionDep, query: Annotated[CronNameForm, Query()]) -> HTMLResponse:
    """Show the form with its values."""
    form = _form_of(await cron_service.shown(session, query.cron))
    return page.render("cron_form.html", form=form, is_new=False, **_choices(), problem=None)


@router.post("/crons/change")
async def change_cron(
    form: Annotated[CronChangeForm, Form()], page: PageDep, viewer: ViewerDep, session: SessionDep, *, client: ClientDep
) -> RedirectResponse:
    """Give it these values, if nobody has changed it since the form was shown."""
    page.on_error("cron_form.html", form=form, is_new=False, **_choices())
    await cron_service.change(
        session, form.name, form.to_values(), version=form.version, principal=viewer, client=client
    )
    return see_other(f"{CRONS}?done=cron-changed")


@router.get("/crons/delete")
async def delete_page(page: PageDep, _: FreshViewerDep, query: Annotated[CronNameForm, Query()]) -> HTMLResponse:
    """Ask whether it is meant."""
    return page.render("cron_delete.html", name=query.cron, problem=None)


@router.post("/crons/delete")
async def delete_cron(
    form: Annotated[CronNameForm, Form()],
    page: PageDep,
    viewer: FreshViewerDep,
    auth: AuthDep,
    session: SessionDep,
    *,
    client: ClientDep,
) -> RedirectResponse:
    """Delete it; its jobs stay."""
    page.on_error("cron_delete.html", name=form.cron)
    await cron_service.delete(auth, session, form.cron, principal=viewer, client=client)
    return see_other(f"{CRONS}?done=cron-deleted")
