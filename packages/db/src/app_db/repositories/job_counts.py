"""Counts jobs, each group up to a limit, so that the cost does not grow with the number of jobs."""

from datetime import timedelta

from sqlalchemy import text

from app_db.models import JobState
from app_db.repositories.job_groups import APART_GROUPS, ENDED_GROUPS, LINES, ON_THEIR_WAY, SET_APART
from app_db.repositories.job_views import FinishedCount, JobCount, JobStats, QueueOverview
from app_db.repositories.limits import up_to
from app_db.session import Session

SILENCE = timedelta(seconds=15)
"""A worker without a heartbeat for so long is taken for dead; its jobs are delivered again."""
MOST = 1000
"""How many jobs of a state, queue and kind are counted; a larger count is reported as "at least"."""

MEAN_OF = 100
"""How many jobs of a state, queue and kind, the newest, a mean is of."""

_UP_TO_MOST = up_to("most")

# All open and discarded jobs, each from its partial index. Without a limit, :most is NULL.
_OPEN = f"""
    {APART_GROUPS}, {LINES}, set_apart AS (
        SELECT state, queue, kind, jobs FROM apart, LATERAL (
            SELECT count(*) AS jobs FROM (
                SELECT FROM jobs WHERE {SET_APART}
                    AND state = apart.state AND queue = apart.queue AND kind = apart.kind
                ORDER BY id {_UP_TO_MOST}
            ) AS counted
        ) AS counted
        WHERE state <> 'cancelled'
    ), due AS MATERIALIZED (
        SELECT lines.queue, lines.priority, found.* FROM lines, LATERAL (
            SELECT kind, state, claim_at FROM jobs WHERE claim_at IS NOT NULL AND claim_at <= now()
                AND queue = lines.queue AND priority = lines.priority ORDER BY claim_at {_UP_TO_MOST}
        ) AS found
    ), on_their_way AS MATERIALIZED (
        SELECT state, queue, kind FROM jobs WHERE {ON_THEIR_WAY} ORDER BY queue {_UP_TO_MOST}
    ), open AS (
        SELECT state, queue, kind, jobs FROM set_apart
        UNION ALL
        SELECT state, queue, kind, count(*) FROM due WHERE state = 'available' GROUP BY state, queue, kind
        UNION ALL
        SELECT state, queue, kind, count(*) FROM on_their_way GROUP BY state, queue, kind
    ), full_lines AS (
        SELECT queue FROM due GROUP BY queue, priority HAVING count(*) >= :most
        UNION ALL
        SELECT queue FROM set_apart WHERE jobs >= :most
        UNION ALL
        SELECT queue FROM on_their_way WHERE (SELECT count(*) FROM on_their_way) >= :most
    )
"""  # noqa: S608  # made of constants

QUEUES = text(f"""
    WITH {_OPEN}, counts AS (
        SELECT queue AS name, jsonb_object_agg(state, jobs) AS counts FROM (
            SELECT queue, state, sum(jobs) AS jobs FROM open WHERE state <> 'discarded' GROUP BY queue, state
        ) AS states GROUP BY queue
    ), dues AS (
        SELECT queue AS name, min(claim_at) AS due_at FROM due GROUP BY queue
    ), names AS (
        SELECT DISTINCT queue AS name FROM lines UNION SELECT name FROM job_queues
        UNION SELECT unnest(queues) FROM job_workers
    )
    SELECT name, paused_at, paused_by, max_running, coalesce(counts, '{{}}') AS counts,
        CAST(extract(epoch FROM now() - CASE
            WHEN isfinite(due_at) THEN due_at WHEN due_at < now() THEN '1970-01-01 00:00Z'  -- of before, without bounds
        END) AS float) AS oldest_due_age,
        (SELECT count(*) FROM job_workers WHERE name = ANY (queues) AND now() - beat_at < :silence) AS workers,
        name IN (SELECT queue FROM full_lines) AS at_least
    FROM names LEFT JOIN counts USING (name) LEFT JOIN dues USING (name) LEFT JOIN job_queues USING (name)
    ORDER BY name
""")  # noqa: S608  # made of constants

_COUNTS = text(f"""
    WITH {_OPEN}
    SELECT queue, kind, state, CAST(sum(jobs) AS bigint) AS jobs, EXISTS (SELECT FROM full_lines) AS at_least
    FROM open GROUP BY queue, kind, state ORDER BY queue, kind, state
""")  # noqa: S608  # made of constants

_NEWEST = """FROM jobs WHERE finished_at IS NOT NULL AND state = ended.state AND queue = ended.queue
    AND kind = ended.kind AND finished_at > now() - CAST(:within AS interval) ORDER BY finished_at DESC"""
# The index has all that is counted; for how long a job ran, its row is read.
_FINISHED = text(f"""
    WITH {ENDED_GROUPS}
    SELECT kind, state, CAST(sum(jobs) AS bigint) AS jobs, bool_or(jobs >= :most) AS at_least,
        sum(run_time) / nullif(sum(ran), 0) AS mean_run_time
    FROM ended, LATERAL (SELECT count(*) AS jobs FROM (SELECT {_NEWEST} {_UP_TO_MOST}) AS newest) AS counted, LATERAL (
        SELECT count(*) AS ran, CAST(extract(epoch FROM sum(finished_at - started_at)) AS float) AS run_time
        FROM (SELECT started_at, finished_at {_NEWEST} {up_to("timed")}) AS newest WHERE finished_at > started_at
    ) AS timed
    WHERE jobs > 0 GROUP BY kind, state ORDER BY kind, state
""")  # noqa: S608  # made of constants


async def queues(session: Session, *, most: int | None) -> list[QueueOverview]:
    """Return all queues that have open jobs, a worker, or settings, by name."""
    rows = await session.execute(QUEUES, {"silence": SILENCE, "most": most})
    return [
        QueueOverview(**{**row, "counts": {JobState(state): n for state, n in row["counts"].items()}})
        for row in rows.mappings()
    ]


async def stats(session: Session, *, within: timedelta | None, most: int | None) -> JobStats:
    """Count the open jobs, the discarded jobs, and the jobs that ended `within` this time (None: none of these)."""
    jobs = (await session.execute(_COUNTS, {"most": most})).all()
    about = {"within": within, "most": most, "timed": None if most is None else min(most, MEAN_OF)}
    finished = [] if within is None else (await session.execute(_FINISHED, about)).all()
    return JobStats(
        [JobCount(row.queue, row.kind, JobState(row.state), row.jobs) for row in jobs],
        [FinishedCount(row.kind, JobState(row.state), row.jobs, row.mean_run_time) for row in finished],
        at_least=any(row.at_least for row in (*jobs, *finished)),
    )
