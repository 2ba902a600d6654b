"""Jobs as their owners and the operators see them, and what runs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Float, cast, exists, func, select, text
from sqlalchemy.orm import defer

from app_db.engine import Session
from app_db.jobs.control import JobFilter
from app_db.models import Job, JobCancellation, JobError, JobState, JobWorker
from app_db.paging import Cursor, Slice, slice_after

SILENCE = timedelta(seconds=15)
"""A worker that has not beaten for so long is taken for dead; its jobs are delivered again."""
MAX_ERRORS = 100


@dataclass(frozen=True, slots=True)
class QueueOverview:
    """How a queue is, and what an operator has set for it."""

    name: str
    paused_at: datetime | None
    max_running: int | None
    workers: int
    """Those that serve it and are alive."""
    counts: Mapping[JobState, int]
    """Its open jobs; a state without jobs is left out."""
    oldest_due_age: float | None
    """Seconds since the job that waits longest became due; None when nothing is due."""


@dataclass(frozen=True, slots=True)
class WorkerOverview:
    """A worker process."""

    id: UUID
    host: str
    pid: int
    queues: Sequence[str]
    concurrency: int
    running: int
    draining: bool
    started_at: datetime
    beat_at: datetime
    beat_age: float
    """Seconds since its last sign of life, by Postgres's clock."""
    is_alive: bool


@dataclass(frozen=True, slots=True)
class JobCount:
    """How many jobs of one kind are in one state, in one queue."""

    queue: str
    kind: str
    state: JobState
    count: int


@dataclass(frozen=True, slots=True)
class FinishedCount:
    """How many jobs of one kind have ended in one way lately."""

    kind: str
    state: JobState
    count: int
    mean_run_time: float | None
    """Seconds, of those that ran in lease mode; the row of a tx job is written before its handler runs."""


@dataclass(frozen=True, slots=True)
class JobStats:
    """The first thing that an operator looks at."""

    jobs: Sequence[JobCount]
    """All that are open, and the dead: those discarded and still on record."""
    finished: Sequence[FinishedCount]


@dataclass(frozen=True, slots=True)
class JobRepository:
    """Finds jobs, queues and workers."""

    session: Session

    async def get(self, job_id: UUID) -> Job | None:
        """Return the job as it is now, whoever's it is."""
        statement = select(Job).where(Job.id == job_id).execution_options(populate_existing=True)
        return (await self.session.scalars(statement)).one_or_none()

    async def get_owned(self, job_id: UUID, *, owner_id: UUID) -> Job | None:
        """Return the job as it is now if the user started it; another's job is not found."""
        statement = select(Job).where(Job.id == job_id, Job.owner_id == owner_id)
        return (await self.session.scalars(statement.execution_options(populate_existing=True))).one_or_none()

    async def owned_by(self, owner_id: UUID, *, after: Cursor | None, limit: int) -> Slice[Job]:
        """Return the jobs that the user started, newest first, without their results."""
        return await self.matching(JobFilter(owner_id=owner_id), after=after, limit=limit)

    async def matching(self, job_filter: JobFilter, *, after: Cursor | None, limit: int) -> Slice[Job]:
        """Return the jobs that match, newest first, without their results."""
        statement = select(Job).where(*job_filter.conditions()).options(defer(Job.result, raiseload=True))
        return await slice_after(self.session, statement, after=after, limit=limit)

    async def errors_of(self, job_id: UUID) -> Sequence[JobError]:
        """Return what went wrong in the attempts of the job, the last first, up to a hundred."""
        statement = select(JobError).where(JobError.job_id == job_id).order_by(JobError.id.desc()).limit(MAX_ERRORS)
        return (await self.session.scalars(statement)).all()

    async def is_asked_to_end(self, job_id: UUID) -> bool:
        """Whether somebody wants the job cancelled that could not be cancelled at once."""
        statement = select(exists().where(JobCancellation.job_id == job_id))
        return bool((await self.session.scalars(statement)).one())

    async def has_queue(self, name: str) -> bool:
        """Whether a queue of this name is in use: it has open jobs, a worker, or settings."""
        return bool((await self.session.scalars(_HAS_QUEUE, {"name": name})).one())

    async def queues(self) -> list[QueueOverview]:
        """Return every queue that has open jobs, a worker, or settings, by name. Reads all open jobs."""
        rows = await self.session.execute(_QUEUES, {"silence": SILENCE})
        return [
            QueueOverview(**{**row, "counts": {JobState(state): n for state, n in row["counts"].items()}})
            for row in rows.mappings()
        ]

    async def dead_tuples(self) -> int:
        """Return how many versions of rows wait to be vacuumed, as Postgres last estimated it."""
        return int((await self.session.scalars(_DEAD_TUPLES)).one())

    async def workers(self) -> list[WorkerOverview]:
        """Return every worker that has not signed off, those that were killed too, the oldest first."""
        beat_age = func.now() - JobWorker.beat_at
        shown = [column for column in JobWorker.__table__.columns if column.name not in {"holding", "holds_until"}]
        seconds = cast(func.extract("epoch", beat_age), Float).label("beat_age")
        statement = select(*shown, seconds, (beat_age < SILENCE).label("is_alive")).order_by(JobWorker.started_at)
        return [WorkerOverview(**row) for row in (await self.session.execute(statement)).mappings()]

    async def stats(self, *, within: timedelta = timedelta(hours=1)) -> JobStats:
        """Count the open jobs, the dead ones, and what has ended `within` this time. Reads all of these rows."""
        jobs = await self.session.execute(_COUNTS)
        finished = await self.session.execute(_FINISHED, {"within": within})
        return JobStats(
            [JobCount(row.queue, row.kind, JobState(row.state), row.jobs) for row in jobs],
            [FinishedCount(row.kind, JobState(row.state), row.jobs, row.mean_run_time) for row in finished],
        )


_HAS_QUEUE = text("""
    SELECT EXISTS (SELECT FROM job_queues WHERE name = :name)
        OR EXISTS (SELECT FROM jobs WHERE queue = :name AND claim_at IS NOT NULL)
        OR EXISTS (SELECT FROM job_workers WHERE :name = ANY (queues))
""")

_DEAD_TUPLES = text("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'jobs'::regclass")

_QUEUES = text("""
    WITH open AS (
        SELECT queue AS name, state, count(*) AS jobs, min(claim_at) FILTER (WHERE claim_at <= now()) AS due_at
        FROM jobs WHERE claim_at IS NOT NULL GROUP BY queue, state
    ), loads AS (
        SELECT name, jsonb_object_agg(state, jobs) AS counts, min(due_at) AS due_at FROM open GROUP BY name
    ), names AS (
        SELECT name FROM loads UNION SELECT name FROM job_queues UNION SELECT unnest(queues) FROM job_workers
    )
    SELECT name, paused_at, max_running, coalesce(counts, '{}') AS counts,
        CAST(extract(epoch FROM now() - due_at) AS float) AS oldest_due_age,
        (SELECT count(*) FROM job_workers WHERE name = ANY (queues) AND now() - beat_at < :silence) AS workers
    FROM names LEFT JOIN loads USING (name) LEFT JOIN job_queues USING (name) ORDER BY name
""")

_COUNTS = text("""
    SELECT queue, kind, state, count(*) AS jobs FROM jobs
    WHERE claim_at IS NOT NULL OR (state = 'discarded' AND finished_at IS NOT NULL)
    GROUP BY queue, kind, state ORDER BY queue, kind, state
""")

_FINISHED = text("""
    SELECT kind, state, count(*) AS jobs,
        CAST(extract(epoch FROM avg(finished_at - started_at) FILTER (WHERE finished_at > started_at)) AS float)
            AS mean_run_time
    FROM jobs WHERE state IN ('completed', 'discarded', 'cancelled') AND finished_at > now() - CAST(:within AS interval)
    GROUP BY kind, state ORDER BY kind, state
""")
