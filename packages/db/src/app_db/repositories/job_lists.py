"""Finds jobs by a filter, newest first, without a scan of the table when few jobs match."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import defer

from app_db.jobs.filters import JobFilter
from app_db.models import Job
from app_db.paging import Cursor, Slice
from app_db.repositories.job_groups import APART_GROUPS, LINES, MOST_GROUPS, ON_THEIR_WAY, SET_APART, groups
from app_db.repositories.limits import up_to
from app_db.repositories.walks import MOST_LOOKED_AT, Order, pinned_to, walk
from app_db.session import Session
from app_db.types import first_id_at

GLANCE = 1000
"""How many of the newest jobs are searched first: if many match, they fill a page."""
FEW = 2000
"""If at most this many jobs may match, all of them are found by their indexes; else `MOST_LOOKED_AT` are searched."""

_COMPLETED = "finished_at IS NOT NULL AND state = 'completed'"
_COMPLETED_GROUPS = groups("completed", ("queue", "kind"), _COMPLETED)
_WANTED = "queue = coalesce(:queue, queue) AND kind = coalesce(:kind, kind)"

_OLDER = "id < :before AND id >= :since"
_STATE = "state = coalesce(CAST(:state AS text), state)"


def _look(most: str, where: str) -> str:
    """Return a query for the ids of a page, among the newest jobs only; they are read as far as needed."""
    return f"""
        SELECT id FROM (
            SELECT id, queue, kind, state FROM jobs WHERE {_OLDER} ORDER BY id DESC {up_to(most)}
        ) AS newest WHERE {_WANTED} AND {_STATE} AND {where} ORDER BY id DESC LIMIT :page
    """  # noqa: S608  # made of constants


def _end_of(page: str, most: str, where: str) -> str:
    """Return a query for where such a look has ended; for no row if its page is full, or there are no more jobs."""
    return f"""
        SELECT id FROM jobs WHERE {_OLDER} AND (SELECT count(*) FROM {page}) < :page AND {where}
        ORDER BY id DESC OFFSET (SELECT CAST(:{most} AS bigint) - 1) LIMIT 1
    """  # noqa: S608  # made of constants


# Three steps, of which the next is taken only if the one before has not filled a page: Postgres tries conditions that
# are no row's before it reads any row. The second finds all matches, group by group. ix_jobs_set_apart has the jobs of
# a group newest first, so a page of each group is enough. Other jobs are all read; if there may be more than FEW,
# `is_all` is false. Each part has the order of its index: else the planner might expect many matches and read the
# table instead.
_FIND = text(f"""
    WITH glance AS MATERIALIZED ({_look("glance", "true")}),
    glanced AS MATERIALIZED ({_end_of("glance", "glance", "true")}),
    {APART_GROUPS}, {_COMPLETED_GROUPS}, {LINES}, set_apart AS (
        SELECT found.id FROM apart, LATERAL (
            SELECT id FROM jobs WHERE {SET_APART} AND state = apart.state AND queue = apart.queue AND kind = apart.kind
                AND id < :before ORDER BY id DESC {up_to("page")}
        ) AS found
        WHERE {_WANTED} AND {_STATE}
    ), done AS MATERIALIZED (
        SELECT found.id FROM completed, LATERAL (
            SELECT id FROM jobs WHERE {_COMPLETED} AND queue = completed.queue AND kind = completed.kind
            ORDER BY finished_at DESC {up_to("few")}
        ) AS found
        WHERE {_WANTED} AND coalesce(CAST(:state AS text), 'completed') = 'completed' LIMIT :few
    ), due AS MATERIALIZED (
        SELECT found.* FROM lines, LATERAL (
            SELECT id, queue, kind, state FROM jobs WHERE claim_at IS NOT NULL AND claim_at <= now()
                AND queue = lines.queue AND priority = lines.priority ORDER BY claim_at {up_to("few")}
        ) AS found
        WHERE lines.queue = coalesce(:queue, lines.queue)
            AND coalesce(CAST(:state AS text), 'available') = 'available' LIMIT :few
    ), on_their_way AS MATERIALIZED (
        SELECT id, queue, kind, state FROM jobs WHERE {ON_THEIR_WAY}
            AND coalesce(CAST(:state AS text), 'dispatched') IN ('dispatched', 'executing')
        ORDER BY queue {up_to("few")}
    ), found AS (
        SELECT id FROM set_apart UNION ALL SELECT id FROM done
        UNION ALL SELECT id FROM due WHERE {_WANTED} AND state = 'available'
        UNION ALL SELECT id FROM on_their_way WHERE {_WANTED} AND {_STATE}
    ), few AS MATERIALIZED (
        SELECT greatest(
                (SELECT count(*) FROM done), (SELECT count(*) FROM due), (SELECT count(*) FROM on_their_way)
            ) < :few AND greatest(
                (SELECT count(*) FROM apart), (SELECT count(*) FROM completed), (SELECT count(*) FROM lines)
            ) < {MOST_GROUPS} AS is_all,
            ARRAY(SELECT id FROM found WHERE {_OLDER} ORDER BY id DESC LIMIT :page) AS ids
        WHERE EXISTS (SELECT FROM glanced)
    ), further AS MATERIALIZED ({_look("most", "(SELECT NOT is_all FROM few)")})
    SELECT CASE WHEN NOT EXISTS (SELECT FROM glanced) THEN ARRAY(SELECT id FROM glance)
            WHEN (SELECT is_all FROM few) THEN (SELECT ids FROM few) ELSE ARRAY(SELECT id FROM further) END AS ids,
        ({_end_of("further", "most", "(SELECT NOT is_all FROM few)")}) AS walked
""").columns(ids=ARRAY(Uuid()), walked=Uuid())  # noqa: S608  # made of constants

_FOUND = _FIND.subquery("found")
_JOBS = (
    select(Job, _FOUND.c.walked)
    .select_from(_FOUND)
    .outerjoin(Job, Job.id == func.any(_FOUND.c.ids))
    .order_by(Job.id.desc())
)
_NO_RESULTS = tuple(defer(each, raiseload=True) for each in (Job.result, Job.steps, Job.cursor))
_ABOVE_ALL, _BELOW_ALL = UUID(int=2**128 - 1), UUID(int=0)


async def find(session: Session, wanted: JobFilter, *, after: Cursor | None, limit: int) -> Slice[Job]:
    """Return a page of the jobs that match, newest first, without their results, by one query.

    The page ends early, and says so, when `MOST_LOOKED_AT` jobs were looked at; its cursor goes on from there.
    """
    given = [name for name in ("state", "kind", "queue") if getattr(wanted, name) is not None]
    if wanted.ids is not None or (wanted.owner_id is None and not given):
        within = wanted.conditions()
        return await walk(session, Job, order=(Job.id,), within=within, after=after, limit=limit, options=_NO_RESULTS)
    since, before = (None if time is None else first_id_at(time) for time in (wanted.since, wanted.before))
    if wanted.owner_id is None:
        end = min(before or _ABOVE_ALL, after.last_id if after else _ABOVE_ALL)
        return await _find(session, wanted, since=since or _BELOW_ALL, before=end, limit=limit)

    def rest(job: Any) -> list[ColumnElement[bool]]:  # Any: the alias
        return [getattr(job, name) == getattr(wanted, name) for name in given]

    order: Order = (Job.owner_id, Job.id)
    within = pinned_to(order, wanted.owner_id, since=since, before=before, after=after)
    sift = rest if given else None
    return await walk(session, Job, order=order, within=within, sift=sift, after=None, limit=limit, options=_NO_RESULTS)


async def _find(session: Session, wanted: JobFilter, *, since: UUID, before: UUID, limit: int) -> Slice[Job]:
    parameters = {
        "state": wanted.state, "kind": wanted.kind, "queue": wanted.queue, "since": since, "before": before,
        "page": limit + 1, "glance": GLANCE, "few": FEW, "most": MOST_LOOKED_AT,
    }  # fmt: skip
    rows = (await session.execute(_JOBS.options(*_NO_RESULTS), parameters)).all()
    jobs = [job for job, _ in rows if job is not None]
    if len(jobs) > limit:
        return Slice(jobs[:limit], Cursor(jobs[limit - 1].id))
    walked = rows[0].walked
    return Slice(jobs, walked and Cursor(walked), partial=walked is not None)
