"""The months of the audit: added before they begin, and dropped whole (ADR-0076)."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from app_db.session import Session

_ADD = text("SELECT public.add_audit_month()")
_DROP = text("SELECT public.drop_audit_month(CAST(:keep AS interval))")
_DROP_EXPORTED = text("SELECT public.drop_exported_audit_month(CAST(:keep AS interval))")
_ANALYZE = text("SELECT public.analyze_audit_months()")
_ENDED = text("""
    SELECT name FROM public.audit_months()
    WHERE end_id <= public.audit_id_at((now() - CAST(:keep AS interval)) AT TIME ZONE 'UTC') ORDER BY end_id
""")


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

    async def drop_ended(self, keep: timedelta, *, after_export: bool = False) -> str | None:
        """Drop the oldest month of those that ended longer ago than `keep`; return the partition's name, if any.

        Postgres refuses less than 90 days, whoever asks. With `after_export` a month stays until an event
        `audit_month_exported` has its name and as many rows as it has.
        """
        statement = _DROP_EXPORTED if after_export else _DROP
        month: str | None = (await self.session.scalars(statement, {"keep": keep})).one()
        return month

    async def ended(self, keep: timedelta) -> list[str]:
        """Return the partitions of the months that ended longer ago than `keep`, the oldest first."""
        return [*await self.session.scalars(_ENDED, {"keep": keep})]

    async def analyze(self) -> bool:
        """Collect the statistics of all months together if they are older than a day; return whether they were.

        Autovacuum looks at each month alone, so nobody else does it.
        """
        return bool((await self.session.scalars(_ANALYZE)).one())
