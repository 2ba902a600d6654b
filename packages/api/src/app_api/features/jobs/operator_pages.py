"""The jobs of everybody: found by a filter that the address bar holds, and followed while they are looked at."""

from collections.abc import Collection, Mapping
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from app_api.console.dependencies import PageDep
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched, is_id
from app_api.console.paths import ROOT
from app_api.dependencies import CursorDep, SessionDep
from app_api.features.jobs.job_query import AGES, PER_PAGE, Age, JobQuery, filter_of
from app_api.filters import parsed
from app_db import Session
from app_db.jobs.control import QUEUED, RETRIABLE, Action
from app_db.models import FINAL_STATES, OPEN_STATES, Job, JobState
from app_db.repositories.job_views import JobStats
from app_db.repositories.jobs import JobRepository
from app_db.repositories.users import UserRepository
from app_db.types import utcnow

router = APIRouter()

JOBS: Final = f"{ROOT}/jobs"
LINK = Link("Jobs", JOBS, order=10)
NOT_COUNTED: Final = frozenset({JobState.COMPLETED, JobState.CANCELLED})
NEWEST: Final = 200
"""How many of the newest jobs are looked at, to say how many have come since a page was loaded."""
NONE_YET: Final = UUID(int=0)


def _counts(query: JobQuery, stats: JobStats) -> Mapping[str, int]:
    """Return the numbers of open and discarded jobs by state, of the kind and the queue of the filter."""
    counts: dict[str, int] = {state.value: 0 for state in JobState if state not in NOT_COUNTED}
    for each in stats.jobs:
        if query.kind in {"", each.kind} and query.queue in {"", each.queue}:
            counts[each.state] += each.count
    return counts


def _actions_on(state: JobState | None) -> list[Action]:
    """Return the actions that fit some jobs of a state."""
    fits = {
        Action.RETRY: RETRIABLE,
        Action.CANCEL: OPEN_STATES,
        Action.DISCARD: QUEUED,
        Action.DELETE: FINAL_STATES,
    }
    return [action for action, states in fits.items() if state is None or state in states]


@router.get("/jobs")
async def list_jobs(
    page: PageDep, session: SessionDep, after: CursorDep, query: Annotated[JobQuery, Query()]
) -> HTMLResponse:
    """List the jobs that match, newest first."""
    jobs, job_filter = JobRepository(session), await filter_of(session, query, now=utcnow())
    found = await jobs.matching(job_filter, after=after, limit=PER_PAGE)
    first = found.items[0].id if found.items else NONE_YET
    # The ledger counts by kind and queue only.
    stats = None if query.owner or query.error or query.age else await jobs.open_counts()
    return page.render(
        "jobs.html",
        query=query,
        found=found,
        after=after,
        rows={job.id: job for job in found.items},
        emails=await UserRepository(session).emails_of({job.owner_id for job in found.items if job.owner_id}),
        counts={} if stats is None else _counts(query, stats),
        at_least=stats is not None and stats.at_least,
        states=list(JobState),
        ages={age: text for age, (text, _) in AGES.items()},
        actions=_actions_on(query.state),
        newer=None if after else _newer_mark(query, job_filter.owner_id, first),
    )


class Newer(JobQuery):
    """A filter by columns of a job, with the id of its owner, and the newest job that a page shows."""

    first: UUID

    def fields(self) -> dict[str, str]:
        """Return those of the list, which an address repeats."""
        return {name: value for name, value in super().fields().items() if name != "first"}

    def is_met_by(self, job: Job) -> bool:
        """Return whether a job is newer than those on the page, and matches."""
        wanted = ((job.state, self.state), (job.kind, self.kind), (job.queue, self.queue), (job.owner_id, self.owner))
        return job.id > self.first and all(not value or str(value) == str(given) for given, value in wanted)


def _newer_mark(query: JobQuery, owner_id: UUID | None, first: UUID) -> str | None:
    """Return what a page watches to say that newer jobs match; None where their columns do not tell."""
    if query.error or query.id or query.age in {Age.OLDER_HOUR, Age.OLDER_DAY}:
        return None
    by_id = query.model_copy(update={"owner": str(owner_id or "")})
    return by_id.to_query(first=str(first))


async def read_rows(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the rows of all pages, by two queries. They stay where they are, so that nobody clicks on another one."""
    asked = {one: [UUID(about) for about in one.about.split(",") if is_id(about)] for one in watched}
    ids = {job_id for of_page in asked.values() for job_id in of_page[:PER_PAGE]}
    jobs = {job.id: job for job in await JobRepository(session).lines_of(ids)}
    emails = await UserRepository(session).emails_of({job.owner_id for job in jobs.values() if job.owner_id})
    return {
        one: {"rows": {job_id: jobs.get(job_id) for job_id in of_page[:PER_PAGE]}, "emails": emails}
        for one, of_page in asked.items()
    }


async def read_counts(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return the counts for all filters, by one query."""
    queries = {one: query for one in watched if (query := parsed(JobQuery, one.about)) is not None}
    stats = await JobRepository(session).open_counts()
    shared = {"states": list(JobState), "at_least": stats.at_least}
    return {one: {"query": query, "counts": _counts(query, stats), **shared} for one, query in queries.items()}


async def read_newer(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return how many jobs have come that match, for all filters, by one query."""
    queries = {one: query for one in watched if (query := parsed(Newer, one.about)) is not None}
    newest = await JobRepository(session).newest(NEWEST)
    return {
        one: {"count": sum(query.is_met_by(job) for job in newest), "most": NEWEST, "address": query.to_query()}
        for one, query in queries.items()
    }


LIVE = {
    "job-counts": Fragment("jobs_counts.html", read_counts),
    "job-rows": Fragment("jobs_table.html", read_rows),
    "newer-jobs": Fragment("jobs_newer.html", read_newer),
}
