"""Repairs times that Postgres wrote while its clock was ahead, before it was set back or another server took over.

Without the repair, jobs, crons and leases would wait, and sessions would live on, until the clock reaches those times.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import TextClause, text

from app_db.jobs.bounds import LONGEST_LEASE
from app_db.models import User
from app_db.repositories.job_groups import ENDED_GROUPS
from app_db.session import Session

AHEAD = timedelta(minutes=1)
"""A time further ahead than this was written by a clock that was ahead; a nearer one is reached soon."""
MOST = 50_000
"""How many jobs one call repairs."""

# A live worker writes both columns again with its next beat; until then relays claim none of its jobs.
_WORKERS = text("""
    UPDATE job_workers SET beat_at = now(), holds_until = least(holds_until, now() + interval '15 seconds')
    WHERE beat_at > now() + :ahead
""")
_CRONS = text("""
    UPDATE job_crons SET last_tick_at = least(last_tick_at, now()), done_at = least(done_at, now()),
        seen_at = CASE WHEN seen_at IS NOT NULL THEN least(seen_at, now()) END
    WHERE greatest(last_tick_at, done_at, seen_at) > now() + :ahead
""")
# Workers look at the row at once, and compute its next tick from now.
_SCHEDULES = text("""
    UPDATE job_schedules SET last_tick_at = now(), next_tick_at = CASE WHEN next_tick_at IS NOT NULL THEN now() END
    WHERE last_tick_at > now() + :ahead
""")
# Makes jobs due that were due when they were written, whose lease is longer than any worker's, or whose back-off or
# snooze began in the future. A `run_at` that a caller chose stays.
_OPEN = text("""
    WITH ahead AS (
        SELECT id FROM jobs WHERE claim_at IS NOT NULL AND claim_at > now() + :ahead AND (
            state = 'available'
            OR state IN ('dispatched', 'executing') AND claim_at > now() + :longest_lease
            OR state IN ('retryable', 'scheduled') AND started_at > now() + :ahead
            OR state = 'retryable' AND EXISTS (
                SELECT FROM job_errors WHERE job_id = jobs.id AND failed_at > now() + :ahead
            )
        )
        ORDER BY id LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE jobs SET claim_at = now(), run_at = least(run_at, now()), started_at = least(started_at, now())
    WHERE id = ANY (ARRAY(SELECT id FROM ahead))
""")
# Jobs that wait for a limit, and have never been started; the trigger holds them again. `_OPEN` finds the others.
_HELD = text("""
    WITH ahead AS (
        SELECT id FROM jobs WHERE due_at IS NOT NULL AND due_at > now() + :ahead AND due_at = created_at
        ORDER BY limit_key, queue, priority, due_at LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE jobs SET claim_at = now(), run_at = now() WHERE id = ANY (ARRAY(SELECT id FROM ahead))
""")
_LIMIT_KEYS = text("""
    UPDATE job_limit_keys SET admit_at = least(admit_at, now()), started = ARRAY(
        SELECT least(at, now()) FROM unnest(started) AS at
    )
    WHERE now() + :ahead < ANY (started)
""")
_ENDED = text(f"""
    WITH {ENDED_GROUPS}, ahead AS (
        SELECT found.id FROM ended, LATERAL (
            SELECT id FROM jobs WHERE finished_at IS NOT NULL AND finished_at > now() + :ahead
                AND state = ended.state AND queue = ended.queue AND kind = ended.kind
            ORDER BY finished_at LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
        ) AS found
    )
    UPDATE jobs SET finished_at = now(), started_at = least(started_at, now())
    WHERE id = ANY (ARRAY(SELECT id FROM ahead))
""")  # noqa: S608  # made of constants
# Sessions keep the remaining lifetime that they had when they were written.
_SESSIONS = text("""
    WITH ahead AS (
        SELECT id, greatest(created_at, last_used_at) - now() AS used,
            greatest(created_at - now(), interval '0') AS born
        FROM user_sessions WHERE greatest(created_at, last_used_at) > now() + :ahead
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE user_sessions SET idle_expires_at = least(idle_expires_at - used, expires_at - born),
        expires_at = expires_at - born, created_at = least(created_at, now()),
        last_used_at = least(last_used_at, now()), rotated_at = least(rotated_at, now())
    FROM ahead WHERE user_sessions.id = ahead.id
""")


def _set_back(table: str) -> TextClause:
    return text(f"""
        UPDATE {table} SET expires_at = expires_at - (created_at - now()), created_at = now()
        WHERE created_at > now() + :ahead
    """)  # noqa: S608  # names of our own


_TIMES = {"ahead": AHEAD}
_STATEMENTS: Mapping[str, tuple[TextClause, Mapping[str, Any]]] = {  # Any: of SQL
    "workers": (_WORKERS, _TIMES),
    "crons": (_CRONS, _TIMES),
    "schedules": (_SCHEDULES, _TIMES),
    "jobs": (_OPEN, {**_TIMES, "longest_lease": LONGEST_LEASE, "most": MOST}),
    "held_jobs": (_HELD, {**_TIMES, "most": MOST}),
    "limit_keys": (_LIMIT_KEYS, _TIMES),
    "ended_jobs": (_ENDED, {**_TIMES, "most": MOST}),
    "sessions": (_SESSIONS, _TIMES),
    **{
        table.name: (_set_back(table.name), _TIMES)
        for table in User.metadata.sorted_tables  # app_db.models has imported those of features
        if "moves_with_clock" in table.info
    },
}


def is_ahead(time: datetime, now: datetime) -> bool:
    """Return whether `time` was written by a clock that was ahead of `now`."""
    return time > now + AHEAD


async def repair_times(session: Session) -> dict[str, int]:
    """Repair times that were written while Postgres's clock was ahead; return how many rows, by table.

    Loses nothing, and may run in two processes at once. Locked rows are left for the next call.
    """
    rows = {}
    for what, (statement, parameters) in _STATEMENTS.items():
        result = await session.execute(statement, parameters)
        rows[what] = int(result.rowcount)  # type: ignore[attr-defined]  # of an UPDATE
    return rows
