"""The SQL of cron: a tick is claimed by compare-and-set."""

from datetime import datetime

from sqlalchemy import text

from app_db.engine import Session

_ADVANCE = text("""
    INSERT INTO job_crons AS cron (name, last_tick_at) VALUES (:name, :tick)
    ON CONFLICT (name) DO UPDATE SET last_tick_at = excluded.last_tick_at
        WHERE cron.last_tick_at < excluded.last_tick_at
    RETURNING old.name
""")


async def advance_cron(session: Session, name: str, *, tick: datetime) -> bool:
    """Claim a tick for this transaction: True for exactly one caller, however many workers try and when.

    A cron that was never seen starts at `tick` without firing.
    """
    previous = (await session.execute(_ADVANCE, {"name": name, "tick": tick})).one_or_none()
    return previous is not None and previous.name is not None


async def database_time(session: Session) -> datetime:
    """Postgres's clock, the only one that decides when something is due."""
    now: datetime = (await session.scalars(text("SELECT now()"))).one()
    return now
