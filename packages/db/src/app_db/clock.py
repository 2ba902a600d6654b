"""Postgres's clock, by which everything lives that is a row: no clock of a process decides when something ends."""

from datetime import datetime

from sqlalchemy import ColumnElement, DateTime, bindparam, func

NOW_SQL = "coalesce(CAST(:now AS timestamptz), now())"
"""For a `text()` with the parameter `now`: Postgres's time where that is None."""

NOW: ColumnElement[datetime] = func.coalesce(bindparam("now", type_=DateTime(timezone=True)), func.now())
"""The same as an expression, for statements that are built once."""


def time_or_now(now: datetime | None) -> ColumnElement[datetime]:
    """Return `now` as an expression, or Postgres's own time where it is None.

    A time is for tests, which have no patience. Whoever serves people says None: of two processes whose clocks differ,
    one would end what the other has just begun.
    """
    return func.now() if now is None else bindparam(None, now, type_=DateTime(timezone=True))
