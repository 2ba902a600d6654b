"""The jobs of everybody: found by a filter that the address bar holds, and acted on, one or many."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, BeforeValidator, Field

from app_api.console.dependencies import PageDep, ViewerDep, get_fresh_viewer
from app_api.console.found import Link
from app_api.console.paths import ROOT
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, CursorDep, SessionDep
from app_api.features.jobs import service
from app_auth.addresses import canonical_email
from app_auth.errors import InvalidEmail
from app_db import Session
from app_db.jobs import control
from app_db.jobs.control import QUEUED, RETRIABLE, Action
from app_db.jobs.filters import JobFilter
from app_db.models import OPEN_STATES, JobState
from app_db.repositories.job_failures import jobs_with_error
from app_db.repositories.jobs import JobRepository
from app_db.repositories.users import UserRepository
from app_db.types import utcnow

router = APIRouter()

JOBS: Final = f"{ROOT}/jobs"
LINK = Link("Jobs", JOBS, order=10)
DONE = {
    "jobs-retried": "The jobs are due now.",
    "jobs-cancelled": "The jobs are cancelled, or asked to end.",
    "jobs-discarded": "The jobs are discarded.",
    "jobs-go-on": "A thousand jobs are done. Others match still: do it again for the next ones.",
}
DONE_CODES: Final = {Action.RETRY: "jobs-retried", Action.CANCEL: "jobs-cancelled", Action.DISCARD: "jobs-discarded"}
PER_PAGE: Final = 25
MOST_COUNTED: Final = 10_000
AT_ONCE: Final = 1000
"""How many jobs one form acts on: its transaction holds their rows."""
NOT_COUNTED: Final = frozenset({JobState.COMPLETED, JobState.CANCELLED})
NOBODY: Final = UUID(int=0)
"""The owner that an unknown address stands for: it has no jobs."""


class Age(StrEnum):
    """When jobs were enqueued."""

    HOUR = "1h"
    DAY = "1d"
    WEEK = "7d"
    OLDER_HOUR = "older-1h"
    OLDER_DAY = "older-1d"


AGES: Final[Mapping[Age, tuple[str, timedelta]]] = {
    Age.HOUR: ("in the last hour", timedelta(hours=1)),
    Age.DAY: ("in the last day", timedelta(days=1)),
    Age.WEEK: ("in the last week", timedelta(days=7)),
    Age.OLDER_HOUR: ("more than an hour ago", timedelta(hours=1)),
    Age.OLDER_DAY: ("more than a day ago", timedelta(days=1)),
}


def _none_if_empty(value: object) -> object:
    """Read an empty field of a form as one that was left out."""
    return None if value == "" else value


def _text(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _split(value: object) -> object:
    return ",".join(map(str, value)).split(",") if isinstance(value, list) and value else value


type Empty[T] = Annotated[T | None, BeforeValidator(_none_if_empty)]
type Text = Annotated[str, BeforeValidator(_text), Field(max_length=200)]


class JobQuery(BaseModel):
    """A filter as the address bar has it."""

    state: Empty[JobState] = None
    kind: Text = ""
    queue: Text = ""
    owner: Text = ""
    """The address or the id of an account."""
    error: Text = ""
    age: Empty[Age] = None
    id: Annotated[list[UUID], BeforeValidator(_split), Field(max_length=PER_PAGE)] = []
    """The jobs that are ticked: a box each, or all in one field, because a form gives no field twice here."""

    def fields(self) -> dict[str, str]:
        """Return the names and values that a form or an address repeats."""
        given = {name: str(value) for name, value in self if value and name != "id"}
        return given | ({"id": ",".join(map(str, self.id))} if self.id else {})

    def to_query(self, **others: str) -> str:
        """Return it as it stands in an address."""
        return urlencode(self.fields() | others)


async def _filter_of(session: Session, query: JobQuery) -> JobFilter:
    ids = tuple(query.id) or None
    if query.error and ids is None:
        ids = await jobs_with_error(session, query.error)
    since = before = None
    if query.age is not None:
        _, length = AGES[query.age]
        moment = utcnow() - length
        since, before = (None, moment) if query.age.startswith("older") else (moment, None)
    owner_id = await _owner_of(session, query.owner) if query.owner else None
    return JobFilter(query.state, query.kind or None, query.queue or None, owner_id, since, before, ids)


async def _owner_of(session: Session, owner: str) -> UUID:
    try:
        return UUID(owner)
    except ValueError:
        try:
            return await UserRepository(session).find_id(canonical_email(owner)) or NOBODY
        except InvalidEmail:
            return NOBODY


async def _counts(session: Session, query: JobQuery) -> tuple[Mapping[str, int], bool]:
    """Return the numbers of open and discarded jobs by state, of the kind and the queue of the filter."""
    if query.owner or query.error or query.age:  # the ledger counts by kind and queue only
        return {}, False
    stats = await JobRepository(session).open_counts()
    counts: dict[str, int] = {state.value: 0 for state in JobState if state not in NOT_COUNTED}
    for each in stats.jobs:
        if query.kind in {"", each.kind} and query.queue in {"", each.queue}:
            counts[each.state] += each.count
    return counts, stats.at_least


def _actions_on(state: JobState | None) -> list[Action]:
    """Return the actions that fit some jobs of a state."""
    fits = {Action.RETRY: RETRIABLE, Action.CANCEL: OPEN_STATES, Action.DISCARD: QUEUED}
    return [action for action, states in fits.items() if state is None or state in states]


@router.get("/jobs")
async def list_jobs(
    page: PageDep, session: SessionDep, after: CursorDep, query: Annotated[JobQuery, Query()]
) -> HTMLResponse:
    """List the jobs that match, newest first."""
    found = await JobRepository(session).matching(await _filter_of(session, query), after=after, limit=PER_PAGE)
    owners = {job.owner_id for job in found.items if job.owner_id is not None}
    counts, at_least = await _counts(session, query)
    return page.render(
        "jobs.html",
        query=query,
        found=found,
        after=after,
        emails=await UserRepository(session).emails_of(owners),
        counts=counts,
        at_least=at_least,
        states=list(JobState),
        ages={age: text for age, (text, _) in AGES.items()},
        actions=_actions_on(query.state),
    )


class BulkQuery(JobQuery):
    """What to do, and with which jobs."""

    action: Action


@router.get("/jobs/act")
async def confirm_act(
    page: PageDep, session: SessionDep, viewer: ViewerDep, auth: AuthDep, query: Annotated[BulkQuery, Query()]
) -> HTMLResponse:
    """Say how many jobs would be acted on, before anything is done."""
    if query.action is Action.DISCARD:
        await get_fresh_viewer(viewer, auth, session)
    job_filter = await _filter_of(session, query)
    count = await control.count_all(session, job_filter, query.action, most=MOST_COUNTED + 1)
    return page.render("act.html", query=query, count=count, most=MOST_COUNTED, at_once=AT_ONCE, problem=None)


@router.post("/jobs/act")
async def act(
    session: SessionDep, viewer: ViewerDep, auth: AuthDep, *, client: ClientDep, query: Annotated[BulkQuery, Form()]
) -> RedirectResponse:
    """Act on up to `AT_ONCE` jobs, and lead back to the list."""
    if query.action is Action.DISCARD:
        await get_fresh_viewer(viewer, auth, session)
    job_filter = await _filter_of(session, query)
    count = await service.act_on_all(session, viewer, job_filter, query.action, client=client, limit=AT_ONCE)
    done = "jobs-go-on" if count == AT_ONCE else DONE_CODES[query.action]
    back = JobQuery.model_validate({**query.model_dump(exclude={"action"}), "id": []})
    return see_other(f"{JOBS}?{back.to_query(done=done)}")
