"""The crons of the table, for operators."""

from dataclasses import dataclass, fields
from typing import Final

from sqlalchemy import Row, exists, func, select
from sqlalchemy.orm import aliased

from app_db.jobs.crons import UNSEEN
from app_db.models import JobCron, JobSchedule
from app_db.repositories.job_views import CronOverview, ScheduleOverview
from app_db.session import Session

MOST: Final = 1000
_OWN: Final = [field.name for field in fields(ScheduleOverview) if field.name != "is_shadowed"]
_SHARED: Final = ("name", "expression", "timezone", "queue", "kind", "last_tick_at", "next_ticks", "last_job_id")

_ANY = aliased(JobCron)
_CRONS = select(
    JobSchedule,
    exists().where(JobCron.name == JobSchedule.name).label("is_shadowed"),
    exists().where(_ANY.seen_at > func.now() - UNSEEN).label("is_looked_at"),
).execution_options(populate_existing=True)


@dataclass(frozen=True, slots=True)
class ScheduleRepository:
    """Finds crons in the table."""

    session: Session

    async def first(self) -> list[CronOverview]:
        """Return up to `MOST` of them, by name."""
        rows = await self.session.execute(_CRONS.order_by(JobSchedule.name).limit(MOST))
        return [_overview(row) for row in rows]

    async def named(self, name: str) -> CronOverview | None:
        """Return the one of this name."""
        row = (await self.session.execute(_CRONS.where(JobSchedule.name == name))).one_or_none()
        return None if row is None else _overview(row)


def _overview(row: Row[JobSchedule, bool, bool]) -> CronOverview:
    schedule, is_shadowed, is_looked_at = row
    own = ScheduleOverview(**{name: getattr(schedule, name) for name in _OWN}, is_shadowed=is_shadowed)
    return CronOverview(
        **{name: getattr(schedule, name) for name in _SHARED},
        run_requested_at=None,
        seen_at=None,
        applied=None,
        is_served=is_looked_at and not is_shadowed,
        schedule=own,
    )
