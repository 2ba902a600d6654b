"""Jobs, queues, workers and crons, for owners and operators."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, exists, false, func, select, text
from sqlalchemy.orm import aliased, defer
from sqlalchemy.orm.attributes import set_committed_value

from app_db.jobs.crons import UNSEEN
from app_db.jobs.filters import JobFilter
from app_db.models import OPEN_STATES, Job, JobCancellation, JobCron, JobError
from app_db.paging import Cursor, Slice
from app_db.repositories import job_counts, job_lists, job_system
from app_db.repositories.job_views import (
    CronOverview,
    JobBrief,
    JobLine,
    JobStats,
    QueueOverview,
    SystemOverview,
    WorkerOverview,
)
from app_db.repositories.walks import newest_of_each
from app_db.session import Session

MAX_ERRORS = 100
MAX_CRONS = 1000


@dataclass(frozen=True, slots=True)
class JobRepository:
    """Finds jobs, queues, workers and crons."""

    session: Session

    async def get(self, job_id: UUID) -> Job | None:
        """Return the current row of the job, of any owner."""
        statement = select(Job).where(Job.id == job_id).execution_options(populate_existing=True)
        return (await self.session.scalars(statement)).one_or_none()

    async def with_cancellation(self, job_id: UUID, *, owner_id: UUID | None) -> tuple[Job, bool, bool] | None:
        """Return the current row of the job, whether it is to end, and whether it has reruns, by one query.

        None if there is no such job, or this user does not own it; without an owner, any job is found.
        """
        asked = exists().where(JobCancellation.job_id == Job.id, Job.state.in_(OPEN_STATES))
        rerun = aliased(Job)
        statement = select(Job, asked, exists().where(rerun.origin_id == Job.id)).where(Job.id == job_id)
        statement = statement.execution_options(populate_existing=True)
        if owner_id is not None:
            statement = statement.where(Job.owner_id == owner_id)
        row = (await self.session.execute(statement)).one_or_none()
        return None if row is None else (row[0], row[1], row[2])

    async def among(self, job_ids: Collection[UUID]) -> Sequence[Job]:
        """Return the current rows of those of these jobs that there are, of any owner, by one query."""
        statement = select(Job).where(Job.id == func.any(bindparam("job_ids", [*job_ids], type_=ARRAY(Uuid))))
        return (await self.session.scalars(statement.execution_options(populate_existing=True))).all()

    async def briefs(self, job_ids: Collection[UUID]) -> dict[UUID, JobBrief]:
        """Return those of these jobs that there are, of any owner, by one query; without ids, by none."""
        if not job_ids:
            return {}
        columns = [getattr(Job, field.name) for field in fields(JobBrief)]
        statement = select(*columns).where(Job.id == func.any(bindparam("job_ids", [*job_ids], type_=ARRAY(Uuid))))
        return {row["id"]: JobBrief(**row) for row in (await self.session.execute(statement)).mappings()}

    async def watched(self, job_ids: Collection[UUID], *, owner_id: UUID | None = None) -> dict[UUID, JobLine]:
        """Return those of these jobs that there are, by one query that reads no more of a row than it returns.

        With an owner only those of this user; without one, of anybody.
        """
        columns = [getattr(Job, field.name) for field in fields(JobLine)]
        statement = select(*columns).where(Job.id == func.any(bindparam("job_ids", [*job_ids], type_=ARRAY(Uuid))))
        if owner_id is not None:
            statement = statement.where(Job.owner_id == owner_id)
        return {row.id: JobLine(*row) for row in await self.session.execute(statement)}

    async def briefs_of_each(self, owner_ids: Collection[UUID], *, limit: int) -> dict[UUID, list[JobBrief]]:
        """Return up to `limit` jobs of each of these users, newest first, by one query."""
        columns = [getattr(Job, field.name) for field in fields(JobBrief)]
        statement = newest_of_each(Job.owner_id, owner_ids, Job.owner_id, *columns, limit=limit)
        jobs: dict[UUID, list[JobBrief]] = {owner_id: [] for owner_id in owner_ids}
        for owner_id, *values in await self.session.execute(statement):
            jobs[owner_id].append(JobBrief(*values))
        return jobs

    async def lines_of(self, job_ids: Collection[UUID]) -> Sequence[Job]:
        """Return the rows of those of these jobs that there are, as lists show them: without payloads and results."""
        return (await self.session.scalars(_LINES.where(Job.id.in_(job_ids)))).all()

    async def emptied(self, job_ids: Collection[UUID]) -> Sequence[Job]:
        """Return the same with an empty payload and no result, for who asks every second: they may be megabytes."""
        jobs = await self.lines_of(job_ids)
        for job in jobs:
            set_committed_value(job, "payload", {})
            for name in ("result", "steps", "cursor"):
                set_committed_value(job, name, None)
        return jobs

    async def newest(self, limit: int) -> Sequence[Job]:
        """Return the newest jobs of all owners, as lists show them: without payloads and results."""
        return (await self.session.scalars(_LINES.order_by(Job.id.desc()).limit(limit))).all()

    async def owned_by(self, owner_id: UUID, *, after: Cursor | None, limit: int) -> Slice[Job]:
        """Return the jobs of this user, newest first, without their results."""
        return await self.matching(JobFilter(owner_id=owner_id), after=after, limit=limit)

    async def matching(self, job_filter: JobFilter, *, after: Cursor | None, limit: int) -> Slice[Job]:
        """Return the jobs that match, newest first, without their results; see `job_lists.find`."""
        return await job_lists.find(self.session, job_filter, after=after, limit=limit)

    async def errors_of(self, job_id: UUID) -> Sequence[JobError]:
        """Return the errors of the job, the newest first, up to a hundred."""
        statement = select(JobError).where(JobError.job_id == job_id).order_by(JobError.id.desc()).limit(MAX_ERRORS)
        return (await self.session.scalars(statement)).all()

    async def errors_among(self, job_ids: Collection[UUID], *, with_traces: bool = False) -> dict[UUID, list[JobError]]:
        """Return the errors of these jobs, the newest first, by one query: a hundred for each."""
        shown = [JobError.id, JobError.job_id, JobError.attempt, JobError.failed_at, JobError.error]
        columns = [*shown, JobError.trace] if with_traces else shown
        statement = select(*columns).where(JobError.job_id.in_(job_ids)).order_by(JobError.id.desc())
        errors: dict[UUID, list[JobError]] = {}
        for row in await self.session.execute(statement.limit(MAX_ERRORS * len(job_ids))):
            errors.setdefault(row.job_id, []).append(JobError(**row._mapping))  # noqa: SLF001  # so SQLAlchemy names it
        return errors

    async def is_asked_to_end(self, job_id: UUID) -> bool:
        """Return whether the job has a cancellation request."""
        return job_id in await self.asked_to_end([job_id])

    async def asked_to_end(self, job_ids: Collection[UUID]) -> set[UUID]:
        """Return which of these jobs have a cancellation request, by one query."""
        return {*await self.session.scalars(select(JobCancellation.job_id).where(JobCancellation.job_id.in_(job_ids)))}

    async def has_queue(self, name: str) -> bool:
        """Return whether a queue of this name has open jobs, a worker, or settings."""
        return bool((await self.session.scalars(_HAS_QUEUE, {"name": name})).one())

    async def queues(self, *, most: int | None = job_counts.MOST) -> list[QueueOverview]:
        """Return all queues that have open jobs, a worker, or settings, by name; counts go up to `most` of a kind."""
        return await job_counts.queues(self.session, most=most)

    async def dead_tuples(self) -> int:
        """Return Postgres's last estimate of the dead rows of `jobs` that wait for vacuum."""
        return int((await self.session.scalars(_DEAD_TUPLES)).one())

    async def oldest_xmin_age(self) -> int:
        """Return how many transactions ago the oldest one began whose rows vacuum has to spare; 0 if there is none.

        Slots and prepared transactions are seen by everybody. The snapshots of other roles are seen by a role that has
        `pg_read_all_stats` (PostgreSQL 18, 27.2.3).
        """
        return int((await self.session.scalars(_OLDEST_XMIN_AGE)).one())

    async def workers(self) -> list[WorkerOverview]:
        """Return all workers that have not signed off, killed ones too, the oldest first."""
        return [WorkerOverview(**row) for row in (await self.session.execute(job_system.workers())).mappings()]

    async def system(self, *, running: int) -> SystemOverview:
        """Return the queues, the workers and up to `running` of the jobs that run, all by one query."""
        return await job_system.read(self.session, running=running)

    async def crons(self) -> list[CronOverview]:
        """Return up to 1,000 crons by name: all that workers have had, also those that were removed from the code."""
        is_served = func.coalesce(JobCron.seen_at > func.now() - UNSEEN, false()).label("is_served")
        next_ticks = func.coalesce(JobCron.next_ticks, []).label("next_ticks")
        plain = [column for column in JobCron.__table__.columns if column.name not in {"done_at", "next_ticks"}]
        statement = select(*plain, next_ticks, is_served).order_by(JobCron.name).limit(MAX_CRONS)
        return [CronOverview(**row) for row in (await self.session.execute(statement)).mappings()]

    async def open_counts(self, *, most: int | None = job_counts.MOST) -> JobStats:
        """Count the open jobs and the discarded jobs, each up to `most`, in one query; `finished` is left empty."""
        return await job_counts.stats(self.session, within=None, most=most)

    async def stats(self, *, within: timedelta = timedelta(hours=1), most: int | None = job_counts.MOST) -> JobStats:
        """Count the open jobs, the discarded jobs, and the jobs that ended `within` this time, each up to `most`."""
        return await job_counts.stats(self.session, within=within, most=most)


_LINES = (
    select(Job)
    .options(*(defer(each, raiseload=True) for each in (Job.payload, Job.result, Job.steps, Job.cursor)))
    .execution_options(populate_existing=True)
)

_HAS_QUEUE = text("""
    SELECT EXISTS (SELECT FROM job_queues WHERE name = :name)
        OR EXISTS (SELECT FROM jobs WHERE queue = :name AND claim_at IS NOT NULL)
        OR EXISTS (SELECT FROM job_workers WHERE :name = ANY (queues))
""")

_DEAD_TUPLES = text("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'jobs'::regclass")

_OLDEST_XMIN_AGE = text("""
    SELECT coalesce(max(age), 0) FROM (
        SELECT age(backend_xmin) FROM pg_stat_activity UNION ALL SELECT age(backend_xmin) FROM pg_stat_replication
        UNION ALL SELECT age(xmin) FROM pg_replication_slots UNION ALL SELECT age(transaction) FROM pg_prepared_xacts
    ) AS spared (age)
""")
