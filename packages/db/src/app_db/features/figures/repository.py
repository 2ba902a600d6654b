"""Counts what ended in each minute, once, and reads it again."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby

from sqlalchemy import and_, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from app_db.clock import NOW_SQL, time_or_now
from app_db.features.figures.figures import BOUNDS, Ended, Figures
from app_db.features.figures.models import JobFigures, Span
from app_db.features.figures.payloads import CountMinutes
from app_db.jobs.control import NO_SYNC, QUEUED
from app_db.repositories.job_groups import ENDED_GROUPS
from app_db.repositories.jobs import JobRepository
from app_db.session import Session
from app_db.types import first_id_at

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
LENGTH = {Span.MINUTE: MINUTE, Span.HOUR: HOUR}
KEPT = {Span.MINUTE: timedelta(hours=25), Span.HOUR: timedelta(days=14)}
"""How long rows are kept. Minutes are added up to hours before they go."""
AT_ONCE = 10
"""How many minutes one call counts, so that it stays short at the first start and after an outage; then call again."""
FIRST = timedelta(hours=1)
"""How far back the first call counts."""
LONGEST_TRANSACTION = timedelta(minutes=10)
"""A minute is counted after this time, even if a transaction that began in it is still open."""

# A row says when its transaction began, and is seen when that has committed. So a minute is over when no transaction
# that began in it is open: sessions of this role are enough, because it alone writes jobs. One without an xid has
# written nothing yet; the ten seconds are for those between their beginning and their first write.
_CLOSED_AT = text(f"""
    SELECT date_trunc('minute', least(
        {NOW_SQL} - interval '10 seconds', greatest(oldest.began_at, {NOW_SQL} - CAST(:longest AS interval))
    ), 'UTC') FROM (
        SELECT coalesce(min(xact_start), {NOW_SQL}) AS began_at FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user
            AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    ) AS oldest
""")  # noqa: S608  # made of constants

# The job that counts is left out: a quiet system shows nothing.
_COUNT_ENDED = text(f"""
    WITH {ENDED_GROUPS}
    SELECT minute, kind, state AS outcome, bucket, count(*) AS jobs FROM ended, LATERAL (
        SELECT date_trunc('minute', finished_at, 'UTC') AS minute,
            CASE WHEN state = 'completed' AND finished_at > started_at THEN width_bucket(
                CAST(extract(epoch FROM finished_at - started_at) AS float), CAST(:bounds AS float[])
            ) END AS bucket
        FROM jobs WHERE finished_at IS NOT NULL
            AND state = ended.state AND queue = ended.queue AND kind = ended.kind
            AND finished_at >= :begin AND finished_at < :end ORDER BY jobs.finished_at OFFSET 0
    ) AS found
    WHERE kind <> :own_kind GROUP BY minute, kind, state, bucket
""")  # noqa: S608  # made of constants

# An error has an id of its time or later. The error of the last attempt is left out: its job is discarded. OFFSET 0
# keeps the planner from a join that reads all jobs.
_COUNT_FAILED = text("""
    SELECT date_trunc('minute', failed_at, 'UTC') AS minute, kind, 'failed' AS outcome, NULL AS bucket,
        count(*) AS jobs
    FROM (
        SELECT job_id, attempt, failed_at FROM job_errors
        WHERE id >= :first_id AND failed_at >= :begin AND failed_at < :end OFFSET 0
    ) AS failed, LATERAL (SELECT kind, state, attempt FROM jobs WHERE id = job_id OFFSET 0) AS job
    WHERE NOT (job.state = 'discarded' AND job.attempt = failed.attempt) GROUP BY minute, kind
""")

# Ids are by the clock of the process, so some of before are looked at.
_COUNT_EVENTS = text("""
    SELECT date_trunc('minute', happened_at, 'UTC') AS minute, event, count(*) AS events FROM audit_events
    WHERE id >= :first_id AND happened_at >= :begin AND happened_at < :end GROUP BY minute, event
""")
CLOCKS_DIFFER = timedelta(minutes=5)


def hour_of(time: datetime) -> datetime:
    """Return the beginning of the hour of this time, in UTC."""
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class FigureRepository:
    """Writes and reads the figures of minutes and hours."""

    session: Session

    async def count(self, now: datetime | None = None) -> int:
        """Count the minutes that are over and were not counted, the oldest first, up to `AT_ONCE`; return how many.

        The rows are written in the transaction of the caller. Any number of callers may count at once: the first row
        of a minute stays. Needs the primary, at READ COMMITTED. For `now` see `app_db.clock`.
        """
        await self._forget(now)
        about = {"now": now, "longest": LONGEST_TRANSACTION}
        closed_at: datetime = (await self.session.scalars(_CLOSED_AT, about)).one()
        last = await self._last(Span.MINUTE)
        begin = closed_at - FIRST if last is None else max(last + MINUTE, closed_at - KEPT[Span.MINUTE])
        end = min(closed_at, begin + AT_ONCE * MINUTE)
        if end <= begin:
            return 0
        minutes = await self._minutes(begin, end)
        if end == closed_at:  # guard: test_what_waits_now_is_no_figure_of_an_hour_ago
            minutes[-1] = replace(minutes[-1], queues=await self._waiting())
        await self._add(Span.MINUTE, minutes)
        if hour_of(end) > hour_of(begin):
            await self._add_hours(end)
        return len(minutes)

    async def within(self, span: Span, time: timedelta) -> Sequence[Figures]:
        """Return the figures of the last `time`, the oldest first. Spans in which nobody counted are left out."""
        since = func.now() - time
        columns = select(JobFigures.began_at, JobFigures.jobs, JobFigures.queues, JobFigures.events)
        rows = columns.where(JobFigures.span == span, JobFigures.began_at >= since).order_by(JobFigures.began_at)
        return [Figures.parse(*row) for row in await self.session.execute(rows)]

    async def recent(self, span: Span, time: timedelta) -> Sequence[Figures]:
        """Return the figures of the last `time` as `within` does; to hours, those minutes are added that no hour has.

        One query: after an hour that is over, its minutes are left out.
        """
        if span is Span.MINUTE:
            return await self.within(span, time)
        hours, minutes = func.now() - time, func.now() - 2 * HOUR
        is_recent = or_(
            and_(JobFigures.span == Span.HOUR, JobFigures.began_at >= hours),
            and_(JobFigures.span == Span.MINUTE, JobFigures.began_at >= minutes),
        )
        columns = select(JobFigures.span, JobFigures.began_at, JobFigures.jobs, JobFigures.queues, JobFigures.events)
        rows = (await self.session.execute(columns.where(is_recent).order_by(JobFigures.began_at))).all()
        end = max((row.began_at + HOUR for row in rows if row.span is Span.HOUR), default=None)
        return [Figures.parse(*row[1:]) for row in rows if row.span is Span.HOUR or end is None or row.began_at >= end]

    async def _last(self, span: Span) -> datetime | None:
        last = select(JobFigures.began_at).where(JobFigures.span == span).order_by(JobFigures.began_at.desc()).limit(1)
        return (await self.session.scalars(last)).one_or_none()

    async def _waiting(self) -> dict[str, int]:
        queues = await JobRepository(self.session).queues()
        return {queue.name: sum(queue.counts.get(state, 0) for state in QUEUED) for queue in queues}

    async def _minutes(self, begin: datetime, end: datetime) -> list[Figures]:
        over = {"begin": begin, "end": end}
        ended: defaultdict[datetime, defaultdict[tuple[str, str], Ended]] = defaultdict(lambda: defaultdict(Ended))
        about = {**over, "bounds": list(BOUNDS), "own_kind": CountMinutes.kind}
        for statement, parameters in (
            (_COUNT_ENDED, about),
            (_COUNT_FAILED, {**over, "first_id": first_id_at(begin)}),
        ):
            for row in await self.session.execute(statement, parameters):
                found = ended[row.minute][row.kind, row.outcome]
                found.count += row.jobs
                if row.bucket is not None:
                    found.run_times[row.bucket] += row.jobs
        events: defaultdict[datetime, dict[str, int]] = defaultdict(dict)
        for row in await self.session.execute(_COUNT_EVENTS, {**over, "first_id": first_id_at(begin - CLOCKS_DIFFER)}):
            events[row.minute][row.event] = row.events
        minutes = [begin + number * MINUTE for number in range(int((end - begin) / MINUTE))]
        return [Figures(minute, ended[minute], {}, events[minute]) for minute in minutes]

    async def _add(self, span: Span, figures: Sequence[Figures]) -> None:
        rows = [
            {"span": span, "began_at": each.began_at, "jobs": each.jobs(), "queues": each.queues, "events": each.events}
            for each in figures
        ]
        statement = insert(JobFigures).values(rows).on_conflict_do_nothing()
        await self.session.execute(statement)  # guard: test_a_minute_is_counted_once_by_many

    async def _add_hours(self, end: datetime) -> None:
        """Add up the hours that are over, since the last that was added up."""
        last = await self._last(Span.HOUR)
        rows = select(JobFigures.began_at, JobFigures.jobs, JobFigures.queues, JobFigures.events).where(
            JobFigures.span == Span.MINUTE, JobFigures.began_at < hour_of(end)
        )
        if last is not None:
            rows = rows.where(JobFigures.began_at >= last + HOUR)
        found = [Figures.parse(*row) for row in await self.session.execute(rows.order_by(JobFigures.began_at))]
        hours = groupby(found, lambda minute: hour_of(minute.began_at))
        if sums := [Figures.sum(hour, minutes) for hour, minutes in hours]:
            await self._add(Span.HOUR, sums)

    async def _forget(self, now: datetime | None) -> None:
        """Delete rows that are old, or that were written while Postgres's clock was ahead."""
        for span, kept in KEPT.items():
            time = time_or_now(now)
            is_out = (JobFigures.began_at < time - kept) | (JobFigures.began_at > time)
            statement = delete(JobFigures).where(JobFigures.span == span, is_out)
            await self.session.execute(statement, execution_options=NO_SYNC)
