"""Finds jobs by a filter, newest first, without a scan of the table when few jobs match."""

from dataclasses import replace
from uuid import UUID

from sqlalchemy import Select, Uuid, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import aliased, defer

from app_db.jobs.filters import JobFilter
from app_db.models import Job
from app_db.paging import Cursor, Slice
from app_db.repositories.job_groups import APART_GROUPS, LINES, MOST_GROUPS, ON_THEIR_WAY, SET_APART, groups
from app_db.session import Session
from app_db.types import first_id_at

GLANCE = 1000
"""How many of the newest jobs are searched first: if many match, they fill a page."""
FEW = 2000
"""If at most this many jobs may match, all of them are found by their indexes."""
MOST_LOOKED_AT = 20_000
"""Else this many of the newest jobs are searched, and the page ends there."""

_COMPLETED = "finished_at IS NOT NULL AND state = 'completed'"
_COMPLETED_GROUPS = groups("completed", ("queue", "kind"), _COMPLETED)
_WANTED = "queue = coalesce(:queue, queue) AND kind = coalesce(:kind, kind)"

# Finds all matches, group by group. ix_jobs_set_apart has the jobs of a group newest first, so a page of each group is
# enough. Other jobs are all read; if there may be more than FEW, `is_all` is false and the caller gives up. Each part
# has the order of its index: else the planner might expect many matches and read the table instead.
_FIND_FEW = text(f"""
    WITH {APART_GROUPS}, {_COMPLETED_GROUPS}, {LINES}, set_apart AS (
        SELECT found.id FROM apart, LATERAL (
            SELECT id FROM jobs WHERE {SET_APART} AND state = apart.state AND queue = apart.queue AND kind = apart.kind
                AND id < :before ORDER BY id DESC LIMIT :page
        ) AS found
        WHERE {_WANTED} AND state = coalesce(CAST(:state AS text), state)
    ), done AS MATERIALIZED (
        SELECT found.id FROM completed, LATERAL (
            SELECT id FROM jobs WHERE {_COMPLETED} AND queue = completed.queue AND kind = completed.kind
            ORDER BY finished_at DESC LIMIT :few
        ) AS found
        WHERE {_WANTED} AND coalesce(CAST(:state AS text), 'completed') = 'completed' LIMIT :few
    ), due AS MATERIALIZED (
        SELECT found.* FROM lines, LATERAL (
            SELECT id, queue, kind, state FROM jobs WHERE claim_at IS NOT NULL AND claim_at <= now()
                AND queue = lines.queue AND priority = lines.priority ORDER BY claim_at LIMIT :few
        ) AS found
        WHERE lines.queue = coalesce(:queue, lines.queue)
            AND coalesce(CAST(:state AS text), 'available') = 'available' LIMIT :few
    ), on_their_way AS MATERIALIZED (
        SELECT id, queue, kind, state FROM jobs WHERE {ON_THEIR_WAY}
            AND coalesce(CAST(:state AS text), 'dispatched') IN ('dispatched', 'executing') LIMIT :few
    ), found AS (
        SELECT id FROM set_apart UNION ALL SELECT id FROM done
        UNION ALL SELECT id FROM due WHERE {_WANTED} AND state = 'available'
        UNION ALL SELECT id FROM on_their_way WHERE {_WANTED} AND state = coalesce(CAST(:state AS text), state)
    )
    SELECT greatest(
            (SELECT count(*) FROM done), (SELECT count(*) FROM due), (SELECT count(*) FROM on_their_way)
        ) < :few AND greatest(
            (SELECT count(*) FROM apart), (SELECT count(*) FROM completed), (SELECT count(*) FROM lines)
        ) < {MOST_GROUPS} AS is_all,
        ARRAY(SELECT id FROM found WHERE id < :before AND id >= :since ORDER BY id DESC LIMIT :page) AS ids
""").columns(ids=ARRAY(Uuid()))  # noqa: S608  # made of constants

_NEWEST, _OLDEST = UUID(int=2**128 - 1), UUID(int=0)


async def find(session: Session, job_filter: JobFilter, *, after: Cursor | None, limit: int) -> Slice[Job]:
    """Return a page of the jobs that match, newest first, without their results.

    The page ends early, and says so, when `MOST_LOOKED_AT` jobs were looked at; its cursor goes on from there.
    """
    if job_filter.before is not None:  # a page begins there, like one after a cursor
        latest = first_id_at(job_filter.before)
        after = Cursor(latest if after is None else min(latest, after.last_id))
    job_filter = replace(job_filter, before=None)
    if job_filter == _of_all(job_filter) or job_filter.ids is not None:
        return _page(await _looked_at(session, job_filter, after=after, page=limit + 1, most=None), limit)
    glance = await _look(session, job_filter, after=after, limit=limit, most=GLANCE)
    if not glance.partial:
        return glance
    if job_filter.owner_id is None:
        few = await _find_few(session, job_filter, after=after, page=limit + 1)
        if few is not None:
            return _page(few, limit)
    return await _look(session, job_filter, after=after, limit=limit, most=MOST_LOOKED_AT)


async def _look(session: Session, job_filter: JobFilter, *, after: Cursor | None, limit: int, most: int) -> Slice[Job]:
    """Search the `most` newest jobs; return a full page, all matches if there are no more jobs, or a partial page."""
    jobs = await _looked_at(session, job_filter, after=after, page=limit + 1, most=most)
    if len(jobs) <= limit:
        last = await _last_looked_at(session, job_filter, after=after, most=most)
        if last is not None:
            return Slice(jobs, Cursor(last), partial=True)
    return _page(jobs, limit)


def _of_all(job_filter: JobFilter) -> JobFilter:
    """Return the part of the filter that a walk over the ids, or over those of an owner, applies by itself."""
    return JobFilter(owner_id=job_filter.owner_id, since=job_filter.since)


def _page(jobs: list[Job], limit: int) -> Slice[Job]:
    page = jobs[:limit]
    return Slice(page, Cursor(page[-1].id) if len(jobs) > limit else None)


def _walk(job_filter: JobFilter, after: Cursor | None, most: int) -> Select[Job]:
    """Return a subquery of the `most` newest jobs of all owners, which is read only as far as needed."""
    newest = select(Job).where(*(_of_all(job_filter) if job_filter.ids is None else job_filter).conditions())
    if after is not None:
        newest = newest.where(Job.id < after.last_id)
    return newest.order_by(Job.id.desc()).limit(most)


async def _looked_at(
    session: Session, job_filter: JobFilter, *, after: Cursor | None, page: int, most: int | None
) -> list[Job]:
    if most is None:
        statement = _walk(job_filter, after, page).options(defer(Job.result, raiseload=True))
    else:
        job = aliased(Job, _walk(job_filter, after, most).subquery())
        given = ((job.state, job_filter.state), (job.kind, job_filter.kind), (job.queue, job_filter.queue))
        statement = select(job).where(*(column == value for column, value in given if value is not None))
        statement = statement.order_by(job.id.desc()).limit(page).options(defer(job.result, raiseload=True))
    return list((await session.scalars(statement)).all())


async def _last_looked_at(session: Session, job_filter: JobFilter, *, after: Cursor | None, most: int) -> UUID | None:
    walk = _walk(job_filter, after, 1).with_only_columns(Job.id).offset(most - 1)
    return (await session.scalars(walk)).one_or_none()


async def _find_few(session: Session, job_filter: JobFilter, *, after: Cursor | None, page: int) -> list[Job] | None:
    parameters = {
        "state": job_filter.state, "kind": job_filter.kind, "queue": job_filter.queue,
        "before": _NEWEST if after is None else after.last_id, "page": page, "few": FEW,
        "since": _OLDEST if job_filter.since is None else first_id_at(job_filter.since),
    }  # fmt: skip
    found = (await session.execute(_FIND_FEW, parameters)).one()
    if not found.is_all:
        return None
    ids = bindparam(None, found.ids, type_=ARRAY(Uuid()))
    statement = select(Job).where(Job.id == ids.any_()).order_by(Job.id.desc())
    return list((await session.scalars(statement.options(defer(Job.result, raiseload=True)))).all())
