"""The SQL of cron: ticks are claimed by compare-and-set."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from app_db.jobs.after_commit import notify_after_commit
from app_db.session import Session

# The rows are written once, at the first look of the first worker; what this statement inserts it does not return.
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

# A worker that freezes with the row locked would keep the tick from all others: Postgres ends its transaction.
_ADVANCE = text("""
    UPDATE job_crons SET last_tick_at = :tick WHERE name = :name AND last_tick_at = :seen
    RETURNING set_config('idle_in_transaction_session_timeout', '5s', true)
""")


# Where `cron` waits for the next attempt at an earlier tick, that attempt is now. What snoozes has said until when.
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
    """The job of an earlier tick, which is open."""

    state: str
    attempt: int


async def join_open_job(session: Session, job_id: UUID, *, queue: str) -> OpenJob | None:
    """Let a tick that found the job of an earlier one open make it due now, in the cron's queue of today.

    Its back-off ends with the tick: in a long one it would stop all the ticks behind it. A job that snoozes goes on
    snoozing. None when the job is of this very transaction.
    """
    row = (await session.execute(_JOIN, {"id": job_id, "queue": queue})).one_or_none()
    if row is None or not row.is_older:
        return None
    if row.is_hastened:
        notify_after_commit(session)
    return OpenJob(row.state, row.attempt)


async def note_done(session: Session, name: str) -> None:
    """Put on record that a job of this cron has done its work."""
    await session.execute(_NOTE_DONE, {"name": name})


async def ages(session: Session, names: Sequence[str]) -> dict[str, float]:
    """Return for how many seconds no job of each of these crons has done its work; one never seen is left out."""
    return {row.name: row.age for row in await session.execute(_AGES, {"names": list(names)})}


async def last_ticks(session: Session, names: Sequence[str]) -> dict[str, datetime]:
    """Return up to where the ticks of each cron have been dealt with, by name.

    A cron that was never seen is on record from now on, and not in the answer: it has no ticks yet.
    """
    rows = await session.execute(_LAST_TICKS, {"names": list(names)})
    return {row.name: row.last_tick_at for row in rows}


async def recorded_ticks(session: Session, names: Sequence[str]) -> dict[str, datetime]:
    """Return what `last_ticks` does, and put nothing on record."""
    return {row.name: row.last_tick_at for row in await session.execute(_RECORDED_TICKS, {"names": list(names)})}


async def advance_cron(session: Session, name: str, *, seen: datetime, tick: datetime) -> bool:
    """Claim the ticks after `seen` and up to `tick` for this transaction: True for exactly one caller, whoever tries.

    False when the cron is not at `seen` any more. Who is not the first waits for the commit of who is, which Postgres
    rolls back when its transaction waits five seconds for the next statement.
    """
    return (await session.execute(_ADVANCE, {"name": name, "seen": seen, "tick": tick})).one_or_none() is not None
