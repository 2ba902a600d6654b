"""Postgres's clock, which alone decides when rows expire; the clocks of processes decide nothing.

Tests pass a `now`, so that they need not wait. Applications pass None: if the clocks of two processes differed, one
would expire rows that the other has just written.
"""

from datetime import datetime

from sqlalchemy import ColumnElement, DateTime, bindparam, func, select

from app_db.session import Session

NOW_SQL = "coalesce(CAST(:now AS timestamptz), now())"
"""For a `text()` with the parameter `now`: its value, or Postgres's time if it is None."""

NOW: ColumnElement[datetime] = func.coalesce(bindparam("now", type_=DateTime(timezone=True)), func.now())
"""The same as an expression, for statements that are built once."""

_TIME = select(func.now())


def time_or_now(now: datetime | None) -> ColumnElement[datetime]:
    """Return `now` as an expression, or Postgres's own time if it is None."""
    return func.now() if now is None else bindparam(None, now, type_=DateTime(timezone=True))


async def database_time(session: Session, now: datetime | None = None) -> datetime:
    """Return `now`; if it is None, query when the transaction began, by Postgres's clock."""
    return (await session.scalars(_TIME)).one() if now is None else now
