"""Retention: deletes jobs that ended long ago, and the rows of workers that were killed."""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import text

from app_db.models import JobState
from app_db.repositories.expiry import BATCH
from app_db.session import Session

RETENTION: Mapping[JobState, timedelta] = {
    JobState.COMPLETED: timedelta(hours=24),
    JobState.CANCELLED: timedelta(hours=24),
    JobState.DISCARDED: timedelta(days=14),
}
"""How long a job is kept after its end, so that people can look into errors: the defaults of `APP_RETENTION__…`."""

QUEUE = "retention"
"""The queue of jobs that delete old rows. Every worker serves it beside its own queues, so that retention goes on when
other queues are paused or have no worker. It can be paused like any queue."""

WORKER_SILENCE = timedelta(hours=1)
"""The row of a worker without a heartbeat for so long is deleted. A worker that only slept inserts it again."""

# One index step for each state, queue and kind, then one index range for each: rows that stay are not read. The ids are
# an array, because the planner cannot know how few they are and might join.
_PRUNE = text("""
    WITH RECURSIVE ended AS (
        (SELECT state, queue, kind FROM jobs WHERE finished_at IS NOT NULL ORDER BY state, queue, kind LIMIT 1)
        UNION ALL
        SELECT following.* FROM ended, LATERAL (
            SELECT state, queue, kind FROM jobs
            WHERE finished_at IS NOT NULL AND (state, queue, kind) > (ended.state, ended.queue, ended.kind)
            ORDER BY state, queue, kind LIMIT 1
        ) AS following
    ), rules AS (
        SELECT state, queue, kind, coalesce(CASE WHEN state = 'completed' THEN by_kind.keep END, by_state.keep) AS keep
        FROM ended
        JOIN unnest(CAST(:states AS text[]), CAST(:state_keeps AS interval[])) AS by_state (state, keep) USING (state)
        LEFT JOIN unnest(CAST(:kinds AS text[]), CAST(:kind_keeps AS interval[])) AS by_kind (kind, keep) USING (kind)
    ), due AS (
        SELECT due.id FROM rules, LATERAL (
            SELECT id FROM jobs
            WHERE state = rules.state AND queue = rules.queue AND kind = rules.kind
                AND finished_at IS NOT NULL AND finished_at < now() - rules.keep
            ORDER BY finished_at LIMIT :limit FOR UPDATE SKIP LOCKED
        ) AS due LIMIT :limit
    ), gone AS (
        DELETE FROM jobs WHERE id = ANY (ARRAY(SELECT id FROM due)) RETURNING id
    )
    SELECT count(*) FROM gone
""")

_FORGET_WORKERS = text("DELETE FROM job_workers WHERE beat_at < now() - CAST(:silence AS interval)")


async def prune(
    session: Session,
    *,
    keep: Mapping[JobState, timedelta] = RETENTION,
    kinds: Mapping[str, timedelta],
    limit: int = BATCH,
) -> int:
    """Delete up to `limit` jobs that ended long ago, with their errors; return how many.

    Call it again, each time in a transaction of its own, while it returns `limit`. The oldest of a kind go first.

    Args:
        session: the deletion joins its transaction.
        keep: how long jobs are kept after their end, by final state; jobs of other states are kept for ever.
        kinds: how long completed jobs of a kind are kept, if that differs from `keep`.
        limit: how many at most.
    """
    parameters = {
        "states": list(keep),
        "state_keeps": list(keep.values()),
        "kinds": list(kinds),
        "kind_keeps": list(kinds.values()),
        "limit": limit,
    }
    return int((await session.scalars(_PRUNE, parameters)).one())


async def forget_workers(session: Session) -> None:
    """Delete the rows of workers that were killed; see `WORKER_SILENCE`."""
    await session.execute(_FORGET_WORKERS, {"silence": WORKER_SILENCE})
