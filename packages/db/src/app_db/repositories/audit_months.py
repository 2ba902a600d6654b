"""The months of the audit: added before they begin, and dropped whole (ADR-0076)."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from app_db.session import Session

_ADD = text("SELECT public.add_audit_month()")
_DROP = text("SELECT public.drop_audit_month(CAST(:keep AS interval))")


@dataclass(frozen=True, slots=True)
class AuditMonthRepository:
    """Calls functions that have the rights of the owner of the tables, as the applications' role has none of them."""

    session: Session

    async def add_missing(self) -> str | None:
        """Add the first month that is missing, of the present one and the next three; return the partition's name.

        A transaction of its own for each, because locks are kept until its end.
        """
        month: str | None = (await self.session.scalars(_ADD)).one()
        return month

    async def drop_ended(self, keep: timedelta) -> str | None:
        """Drop the oldest month of those that ended longer ago than `keep`; return the partition's name, if any.

        Postgres refuses less than 90 days, whoever asks.
        """
        month: str | None = (await self.session.scalars(_DROP, {"keep": keep})).one()
        return month
