"""The SQL of cron: a worker claims ticks by compare-and-set."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from app_db.jobs.after_commit import notify_after_commit
from app_db.session import Session

# The first worker inserts the rows of new crons; the statement does not return the rows that it inserts.
_LAST_TICKS = text("""
    WITH begun AS (
        INSERT INTO job_crons (name, last_tick_at)
        SELECT name, now() FROM unnest(CAST(:names AS text[])) AS cron (name)
        WHERE name NOT IN (SELECT name FROM job_crons)
        ON CONFLICT DO NOTHING
    )
    SELECT name, last_tick_at FROM job_crons WHERE name = ANY (:names)
""")

_RECORDED_TICKS = text("SELECT name, last_tick_at FROM job_crons WHERE name = ANY (CAST(:names AS text[]))")

# The timeout ends the transaction of a worker that freezes: all others would wait for its row lock.
_ADVANCE = text("""
    UPDATE job_crons SET last_tick_at = :tick WHERE name = :name AND last_tick_at = :seen
    RETURNING set_config('idle_in_transaction_session_timeout', '5s', true)
""")


# A job that waits for its next attempt becomes due now. A job that snoozes keeps the time that its handler chose.
_JOIN = text("""
    WITH hastened AS (
        UPDATE jobs SET claim_at = least(claim_at, now()), queue = :queue
        WHERE id = :id AND (state = 'retryable' AND claim_at > now()
            OR state IN ('available', 'retryable') AND queue <> :queue)
        RETURNING id
    )
    SELECT state, attempt, created_at < now() AS is_older, EXISTS (SELECT FROM hastened) AS is_hastened
    FROM jobs WHERE id = :id
""")

_NOTE_DONE = text("UPDATE job_crons SET done_at = now() WHERE name = :name")

_AGES = text("""
    SELECT name, CAST(extract(epoch FROM now() - done_at) AS float) AS age FROM job_crons WHERE name = ANY (:names)
""")


@dataclass(frozen=True, slots=True)
class OpenJob:
    """The job of an earlier tick, which has not ended."""

    state: str
    attempt: int


async def join_open_job(session: Session, job_id: UUID, *, queue: str) -> OpenJob | None:
    """Make the open job of an earlier tick due now, in the queue that the cron has today; return it.

    The tick ends the back-off of the job, because a long back-off would stop all later ticks. A job that snoozes keeps
    its time. Returns None if the job was enqueued in this transaction.
    """
    row = (await session.execute(_JOIN, {"id": job_id, "queue": queue})).one_or_none()
    if row is None or not row.is_older:
        return None
    if row.is_hastened:
        notify_after_commit(session)
    return OpenJob(row.state, row.attempt)


async def note_done(session: Session, name: str) -> None:
    """Record that a job of this cron has done its work."""
    await session.execute(_NOTE_DONE, {"name": name})


async def ages(session: Session, names: Sequence[str]) -> dict[str, float]:
    """Return, for each known cron, the seconds since one of its jobs last did its work."""
    return {row.name: row.age for row in await session.execute(_AGES, {"names": list(names)})}


async def last_ticks(session: Session, names: Sequence[str]) -> dict[str, datetime]:
    """Return the last handled tick of each cron, by name.

    A new cron is inserted with the current time, and left out of the result: it has no due ticks yet.
    """
    rows = await session.execute(_LAST_TICKS, {"names": list(names)})
    return {row.name: row.last_tick_at for row in rows}


async def recorded_ticks(session: Session, names: Sequence[str]) -> dict[str, datetime]:
    """Return what `last_ticks` returns, and insert nothing."""
    return {row.name: row.last_tick_at for row in await session.execute(_RECORDED_TICKS, {"names": list(names)})}


async def advance_cron(session: Session, name: str, *, seen: datetime, tick: datetime) -> bool:
    """Claim the ticks after `seen` and up to `tick` for this transaction; return True to exactly one caller.

    Returns False if another caller has moved the cron past `seen`. Callers wait for the transaction of the first one;
    Postgres ends that transaction if it waits five seconds for its next statement.
    """
    return (await session.execute(_ADVANCE, {"name": name, "seen": seen, "tick": tick})).one_or_none() is not None
