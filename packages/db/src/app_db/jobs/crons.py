"""The SQL of cron: ticks are claimed by compare-and-set."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text

from app_db.engine import Session

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

# A worker that freezes with the row locked would keep the tick from all others: Postgres ends its transaction.
_ADVANCE = text("""
    UPDATE job_crons SET last_tick_at = :tick WHERE name = :name AND last_tick_at = :seen
    RETURNING set_config('idle_in_transaction_session_timeout', '5s', true)
""")


async def last_ticks(session: Session, names: Sequence[str]) -> dict[str, datetime]:
    """Return up to where the ticks of each cron have been dealt with, by name.

    A cron that was never seen is on record from now on, and not in the answer: it has no ticks yet.
    """
    rows = await session.execute(_LAST_TICKS, {"names": list(names)})
    return {row.name: row.last_tick_at for row in rows}


async def advance_cron(session: Session, name: str, *, seen: datetime, tick: datetime) -> bool:
    """Claim the ticks after `seen` and up to `tick` for this transaction: True for exactly one caller, whoever tries.

    False when the cron is not at `seen` any more. Who is not the first waits for the commit of who is, which Postgres
    rolls back when its transaction waits five seconds for the next statement.
    """
    return (await session.execute(_ADVANCE, {"name": name, "seen": seen, "tick": tick})).one_or_none() is not None


async def database_time(session: Session) -> datetime:
    """Postgres's clock, the only one that decides when something is due."""
    now: datetime = (await session.scalars(text("SELECT now()"))).one()
    return now
