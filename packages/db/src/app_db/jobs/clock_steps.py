"""Setting right what Postgres wrote while its clock was ahead: it was fast for a moment, or another server leads now.

What such a time decides would stand still, or live, until the clock has come there once more.
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
"""What lies further ahead was written by another clock; what lies nearer is reached soon."""
MOST = 50_000
"""Jobs that are set right at once."""

# A worker that lives writes both anew with its next beat; until then nothing is taken from it.
_WORKERS = text("""
    UPDATE job_workers SET beat_at = now(), holds_until = least(holds_until, now() + interval '15 seconds')
    WHERE beat_at > now() + :ahead
""")
_CRONS = text("""
    UPDATE job_crons SET last_tick_at = least(last_tick_at, now()), done_at = least(done_at, now())
    WHERE greatest(last_tick_at, done_at) > now() + :ahead
""")
# Due are those that were due when they were written, leases that nobody renews, and what waits for the end of a
# back-off or a snooze that began in the future. A time that somebody has asked for stays.
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
# They keep what was left of their life then.
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


def _moved(table: str) -> TextClause:
    return text(f"""
        UPDATE {table} SET expires_at = expires_at - (created_at - now()), created_at = now()
        WHERE created_at > now() + :ahead
    """)  # noqa: S608  # names of our own


_TIMES = {"ahead": AHEAD}
_STATEMENTS: Mapping[str, tuple[TextClause, Mapping[str, Any]]] = {  # Any: of SQL
    "workers": (_WORKERS, _TIMES),
    "crons": (_CRONS, _TIMES),
    "jobs": (_OPEN, {**_TIMES, "longest_lease": LONGEST_LEASE, "most": MOST}),
    "ended_jobs": (_ENDED, {**_TIMES, "most": MOST}),
    "sessions": (_SESSIONS, _TIMES),
    **{
        table.name: (_moved(table.name), _TIMES)
        for table in User.metadata.sorted_tables
        if "moves_with_clock" in table.info
    },
}


def is_ahead(time: datetime, now: datetime) -> bool:
    """Whether `time` was written by a clock that was ahead of the one that says `now`."""
    return time > now + AHEAD


async def set_right(session: Session) -> dict[str, int]:
    """Let go on what was written while Postgres's clock was ahead, and return how many rows, by what they are.

    Nothing is lost by it, and may be done by two at a time. Rows that somebody has locked are left for the next time.
    """
    rows = {}
    for what, (statement, parameters) in _STATEMENTS.items():
        result = await session.execute(statement, parameters)
        rows[what] = int(result.rowcount)  # type: ignore[attr-defined]  # of an UPDATE
    return rows
