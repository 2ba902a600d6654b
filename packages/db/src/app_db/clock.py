"""Postgres's clock, which alone decides when rows expire; the clocks of processes decide nothing.

A time that is given is for tests, which have no patience. Whoever serves people gives None: of two processes whose
clocks differ, one would end what the other has just begun.
"""

from datetime import datetime

from sqlalchemy import ColumnElement, DateTime, bindparam, func, select

from app_db.session import Session

NOW_SQL = "coalesce(CAST(:now AS timestamptz), now())"
"""For a `text()` with the parameter `now`: Postgres's time where that is None."""

NOW: ColumnElement[datetime] = func.coalesce(bindparam("now", type_=DateTime(timezone=True)), func.now())
"""The same as an expression, for statements that are built once."""

_TIME = select(func.now())


def time_or_now(now: datetime | None) -> ColumnElement[datetime]:
    """Return `now` as an expression, or Postgres's own time where it is None."""
    return func.now() if now is None else bindparam(None, now, type_=DateTime(timezone=True))


async def database_time(session: Session, now: datetime | None = None) -> datetime:
    """Return `now`, or, where it is None, when the transaction began by Postgres's clock: one query."""
    return (await session.scalars(_TIME)).one() if now is None else now
