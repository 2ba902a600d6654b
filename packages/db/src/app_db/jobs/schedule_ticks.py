"""The ticks of crons in the table: what is due, who claims it, and the jobs of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app_db.jobs.clock_steps import AHEAD
from app_db.jobs.crons import OpenJob, note_job_of_row
from app_db.jobs.outbox import enqueue
from app_db.jobs.payload import JobPayload
from app_db.jobs.timetables import CatchUp, Timetable
from app_db.jobs.unique import Unique
from app_db.session import Session

MOST = 1000
"""How many due crons one look returns; those that failed before come last, so that they hold up no others."""

# The time of Postgres with all that is due, by one statement: a worker without such crons asks no more than before.
_LOOK = text("""
    WITH due AS (
        SELECT name, kind, payload, payload_version, expression, timezone, queue, priority, catch_up, overlap, version,
            last_tick_at, next_tick_at, problem,
            EXISTS (SELECT FROM job_crons WHERE job_crons.name = job_schedules.name) AS is_shadowed
        FROM job_schedules WHERE next_tick_at <= now() ORDER BY problem IS NOT NULL, next_tick_at LIMIT :most
    )
    SELECT now() AS now, due.*,
        (SELECT min(next_tick_at) FROM job_schedules WHERE next_tick_at > now()) AS upcoming_at,
        (SELECT max(last_tick_at) FROM job_schedules WHERE last_tick_at > now() + :ahead) AS ahead_at
    FROM (VALUES (1)) AS always (one) LEFT JOIN due ON true
""")

# The timeout ends the transaction of a worker that freezes: all others would wait for its row lock.
_ADVANCE = text("""
    UPDATE job_schedules SET last_tick_at = :tick, next_tick_at = :next_tick_at, problem = NULL,
        next_ticks = CAST(:next_ticks AS timestamptz[])
    WHERE name = :name AND version = :version AND last_tick_at = :seen AND next_tick_at = :due
        AND EXISTS (SELECT FROM job_crons WHERE job_crons.name = job_schedules.name) = :is_shadowed
    RETURNING set_config('idle_in_transaction_session_timeout', '5s', true)
""")

_NOTE_PROBLEM = text("""
    UPDATE job_schedules SET problem = :problem
    WHERE name = :name AND version = :version AND last_tick_at = :seen AND next_tick_at IS NOT NULL
""")


@dataclass(frozen=True, slots=True)
class Due:
    """A cron in the table that has a tick to handle, as one look has found it."""

    name: str
    kind: str
    payload: Mapping[str, Any]  # Any: JSON
    payload_version: int
    expression: str
    timezone: str
    queue: str
    priority: int
    catch_up: CatchUp
    overlap: bool
    version: int
    last_tick_at: datetime
    next_tick_at: datetime
    problem: str | None
    """Why its tick could not be handled at an earlier look."""
    is_shadowed: bool
    """Whether a cron in code has its name: then its ticks pass without jobs."""

    @property
    def timetable(self) -> Timetable:
        """When it ticks."""
        return Timetable(self.expression, self.timezone, CatchUp(self.catch_up))


@dataclass(frozen=True, slots=True)
class ScheduleLook:
    """What one look at the table has found."""

    now: datetime
    """The time of Postgres."""
    due: Sequence[Due]
    upcoming_at: datetime | None
    """The next tick of those that are not due."""
    ahead_at: datetime | None
    """The latest of the last ticks that lie ahead of `now`: Postgres's clock has gone back."""


async def look_at_schedules(session: Session) -> ScheduleLook:
    """Return the time, and the crons of the table that are due, by one statement."""
    rows = (await session.execute(_LOOK, {"most": MOST, "ahead": AHEAD})).mappings().all()
    names = [field.name for field in fields(Due)]
    due = [Due(**{name: row[name] for name in names}) for row in rows if row["name"] is not None]
    return ScheduleLook(rows[0]["now"], due, rows[0]["upcoming_at"], rows[0]["ahead_at"])


async def advance_schedule(session: Session, due: Due, *, tick: datetime, next_ticks: Sequence[datetime]) -> bool:
    """Claim the ticks up to `tick` for this transaction; return True to exactly one caller.

    Returns False if another worker has handled them, or somebody has changed, paused or deleted the cron, or a cron in
    code has got its name, since `due` was read.
    """
    claimed = {
        "name": due.name,
        "version": due.version,
        "seen": due.last_tick_at,
        "due": due.next_tick_at,
        "is_shadowed": due.is_shadowed,
        "tick": tick,
        "next_tick_at": next_ticks[0],
        "next_ticks": [*next_ticks],
    }
    return (await session.execute(_ADVANCE, claimed)).one_or_none() is not None


async def note_problem(session: Session, due: Due, problem: str) -> None:
    """Record why its tick cannot be handled; the tick stays due, for a worker that can."""
    about = {"name": due.name, "version": due.version, "seen": due.last_tick_at, "problem": problem}
    await session.execute(_NOTE_PROBLEM, about)


async def enqueue_job(
    session: Session,
    name: str,
    payload: JobPayload,
    *,
    tick: datetime | None,
    queue: str,
    priority: int,
    overlap: bool,
) -> tuple[UUID, OpenJob | None]:
    """Enqueue the job of a cron in the table for a tick, or for now without a tick; return its id.

    If its jobs must not overlap and an earlier one is open, return that one's id and state instead. The transaction
    holds the row.
    """
    unique = None if overlap else Unique(key=f"schedule:{name}")
    job_id = await enqueue(session, payload, run_at=tick, queue=queue, priority=priority, unique=unique)
    return job_id, await note_job_of_row(session, name, job_id, queue=queue, is_asked_for=tick is None)
