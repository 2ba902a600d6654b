"""The queues, the workers and what runs now, by one query: a page that shows all three asks once."""

from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Float, Select, Subquery, cast, column, func, select, text

from app_db.models import Job, JobState, JobWorker
from app_db.repositories.job_counts import MOST, QUEUES, SILENCE
from app_db.repositories.job_groups import ON_THEIR_WAY
from app_db.repositories.job_views import SystemOverview
from app_db.session import Session

_READER = TypeAdapter(SystemOverview)


def workers() -> Select[Any]:  # Any: many columns
    """Return the query for all workers that have not signed off, killed ones too, the oldest first."""
    beat_age = func.now() - JobWorker.beat_at
    hidden = {"holding", "holds_until", "smtputf8"}
    shown = [each for each in JobWorker.__table__.columns if each.name not in hidden]
    shown.append(JobWorker.__table__.c.holding.label("held_job_ids"))
    seconds = cast(func.extract("epoch", beat_age), Float).label("beat_age")
    return select(*shown, seconds, (beat_age < SILENCE).label("is_alive")).order_by(JobWorker.started_at)


async def read(session: Session, *, running: int) -> SystemOverview:
    """Return the queues by name, the workers by age, and up to `running` jobs that run, the newest first.

    Counts of queues go up to `job_counts.MOST` of a kind. Jobs in tx mode do not show that they run.
    """
    shown = (Job.id, Job.kind, Job.attempt, Job.started_at, Job.progress)
    runs = select(*shown).where(text(ON_THEIR_WAY), Job.state == JobState.EXECUTING).order_by(Job.id.desc())
    parts = {
        "queues": QUEUES.columns(column("name")).subquery("queue"),
        "workers": workers().subquery("worker"),
        "running": runs.limit(running).subquery("run"),
    }
    statement = select(*(_as_json(part).label(name) for name, part in parts.items()))
    row = (await session.execute(statement, {"silence": SILENCE, "most": MOST})).mappings().one()
    return _READER.validate_python({name: row[name] or [] for name in parts})


def _as_json(part: Subquery) -> Any:  # Any: a column of JSON
    return select(func.jsonb_agg(func.to_jsonb(part.table_valued()))).scalar_subquery()
