"""Admission: lets jobs that wait for their limit into the line of due jobs, as far as the limit allows (ADR-0081)."""

from sqlalchemy import column, text

from app_db.jobs.after_commit import notify_after_commit
from app_db.jobs.limits import MOST_IN_A_PERIOD
from app_db.session import Session

MOST_SIGNALS = 10_000
MOST_AT_ONCE = 100
"""How many jobs one admission lets in, of all keys together."""

OF_QUEUE = ("has_limit", "may_admit", "is_held_back")
"""What a claim says of its queue: the first column is its own."""
OF_KEYS = """
    EXISTS (
        SELECT FROM job_limits AS known WHERE EXISTS (SELECT FROM job_limit_signals WHERE name = known.name)
    ) OR EXISTS (
        SELECT FROM job_limit_keys WHERE queue = :queue AND admit_at <= now()
            AND NOT coalesce((SELECT is_paused FROM limits), false)
    ),
    EXISTS (SELECT FROM job_limit_keys WHERE queue = :queue AND admit_at IS NULL)
"""
"""What a claim says of the keys of its queue, in its own terms: whether `admit` may let jobs in, and whether the end of
a job may."""

_RUNNING, _RATE, _PERIOD = (
    f"CASE WHEN set_at IS NULL THEN {name} ELSE set_{name} END AS {name}" for name in ("running", "rate", "period")
)
EFFECTIVE = f"{_RUNNING}, {_RATE}, {_PERIOD}"
"""The limit that holds, of a row of `job_limits`."""

_ALLOWED = f"(SELECT name, {EFFECTIVE} FROM job_limits WHERE name = ANY (:names)) AS allowed"  # noqa: S608  # as below

# Admissions of a limit come one after the other. They lock first and count in the next statement: a statement that
# waited for the lock would count with the snapshot from before. The timeout is that of `claims`.
_LOCK = text("""
    SELECT name, set_config('idle_in_transaction_session_timeout', '5000', true) FROM job_limits AS known
    WHERE EXISTS (SELECT FROM job_limit_signals WHERE name = known.name)
        OR EXISTS (SELECT FROM job_limit_keys WHERE queue = :queue AND admit_at <= now() AND name = known.name)
    ORDER BY name FOR NO KEY UPDATE
""")

# A signal is read in a transaction that sees what it is about. All queues of its key are looked at again.
_READ_SIGNALS = text(f"""
    WITH read AS MATERIALIZED (
        DELETE FROM job_limit_signals WHERE id = ANY (ARRAY(
            SELECT id FROM job_limit_signals WHERE name = ANY (:names) LIMIT :most
        ))
        RETURNING name, limit_key, queue, started_at
    ), arrived AS (
        INSERT INTO job_limit_keys (limit_key, queue, name, admit_at, started)
        SELECT limit_key, queue, name, now(), array_remove(array_agg(started_at), NULL)
        FROM read WHERE queue IS NOT NULL GROUP BY limit_key, queue, name
        ON CONFLICT (limit_key, queue) DO UPDATE SET admit_at = least(job_limit_keys.admit_at, now()), started = ARRAY(
            SELECT at FROM (SELECT period FROM {_ALLOWED} WHERE name = excluded.name) AS limits,
                unnest(job_limit_keys.started || excluded.started) AS at
            WHERE at > now() - period ORDER BY at DESC LIMIT {MOST_IN_A_PERIOD}
        )
        RETURNING limit_key, queue
    ), others AS (
        UPDATE job_limit_keys SET admit_at = least(admit_at, now())
        WHERE limit_key IN (SELECT limit_key FROM read)
            AND (limit_key, queue) NOT IN (SELECT limit_key, queue FROM arrived)
        RETURNING queue
    )
    SELECT EXISTS (SELECT FROM arrived WHERE queue <> :queue) OR EXISTS (SELECT FROM others WHERE queue <> :queue)
""")  # noqa: S608  # made of constants

_LOOKED = f"""
    SELECT name, limit_key, running, rate, period FROM job_limit_keys JOIN {_ALLOWED} USING (name) WHERE queue = :queue
"""  # noqa: S608  # as below
_COUNTS = """
    SELECT count(*) AS jobs, count(*) FILTER (WHERE state <> 'executing') AS unstarted FROM jobs
    WHERE limit_key = looked.limit_key AND due_at IS NULL AND finished_at IS NULL
"""
_STARTS = "job_limit_keys AS same, unnest(same.started) AS at WHERE same.limit_key = looked.limit_key"

# The keys that have waited longest come first, and each gets its share, so that no key waits for another's million.
# A job that is admitted counts towards the rate until it has started, and its start from then on: so no more than
# `rate` jobs start within any `period`, however long some wait for a worker.
_ADMIT = text(f"""
    WITH looked AS MATERIALIZED (
        {_LOOKED} AND admit_at <= statement_timestamp()
            AND NOT EXISTS (SELECT FROM job_queues WHERE job_queues.name = :queue AND paused_at IS NOT NULL)
        ORDER BY admit_at LIMIT :max_jobs
    ), room AS MATERIALIZED (
        SELECT limit_key, greatest(0, least(
            running - counted.jobs,
            rate - counted.unstarted - (
                SELECT count(*) FROM {_STARTS} AND at > statement_timestamp() - looked.period
            ) - (
                SELECT count(*) FROM job_limit_signals AS unread WHERE name = looked.name
                    AND limit_key = looked.limit_key AND started_at > statement_timestamp() - looked.period
            ),
            (:max_jobs - 1) / (SELECT count(*) FROM looked) + 1
        )) AS jobs
        FROM looked, LATERAL ({_COUNTS}) AS counted
    ), chosen AS MATERIALIZED (
        SELECT waiting.* FROM room, LATERAL (
            SELECT id, row_number() OVER (ORDER BY priority, due_at) AS turn FROM (
                SELECT id, priority, due_at FROM jobs
                WHERE limit_key = room.limit_key AND queue = :queue AND due_at <= statement_timestamp()
                ORDER BY priority, due_at LIMIT room.jobs FOR NO KEY UPDATE SKIP LOCKED
            ) AS first
        ) AS waiting
    ), admitted AS (
        UPDATE jobs SET due_at = NULL, state = CASE state WHEN 'scheduled' THEN 'available' ELSE state END,
            claim_at = statement_timestamp() - (:max_jobs - turn) * interval '1 microsecond'
        FROM chosen WHERE jobs.id = chosen.id RETURNING jobs.id
    )
    SELECT limit_key, (SELECT count(*) FROM admitted) AS jobs FROM looked
""").columns(column("limit_key"), column("jobs"))  # noqa: S608  # made of constants

# When each of these keys has to be looked at again. The first job of each priority is found by a step of its own, as
# in `repositories.job_groups`: a key may have a million jobs.
_LOOK_AGAIN = text(f"""
    WITH looked AS MATERIALIZED (
        {_LOOKED} AND limit_key = ANY (CAST(:keys AS text[]))
    ), found AS MATERIALIZED (
        SELECT limit_key, earliest, counted.jobs >= running OR unstarted >= rate AS is_full, period + (
            SELECT at FROM {_STARTS} ORDER BY at DESC OFFSET greatest(rate - unstarted - 1, 0) LIMIT 1
        ) AS allowed_at, period + (SELECT max(at) FROM {_STARTS} AND same.queue = :queue) AS forget_at
        FROM looked, LATERAL ({_COUNTS}) AS counted, LATERAL (
            WITH RECURSIVE steps AS (
                (SELECT priority, due_at FROM jobs WHERE limit_key = looked.limit_key AND queue = :queue
                    AND due_at IS NOT NULL ORDER BY priority, due_at LIMIT 1)
                UNION ALL
                SELECT following.* FROM steps, LATERAL (
                    SELECT priority, due_at FROM jobs WHERE limit_key = looked.limit_key AND queue = :queue
                        AND due_at IS NOT NULL AND priority > steps.priority ORDER BY priority, due_at LIMIT 1
                ) AS following
            )
            SELECT min(due_at) AS earliest FROM steps
        ) AS waiting
    ), gone AS (
        DELETE FROM job_limit_keys USING found WHERE job_limit_keys.limit_key = found.limit_key AND queue = :queue
            AND earliest IS NULL AND (forget_at IS NULL OR forget_at <= statement_timestamp())
        RETURNING job_limit_keys.limit_key
    )
    UPDATE job_limit_keys SET admit_at = CASE
        WHEN earliest IS NULL THEN forget_at
        WHEN is_full THEN NULL
        ELSE greatest(earliest, allowed_at, statement_timestamp())
    END
    FROM found WHERE job_limit_keys.limit_key = found.limit_key AND queue = :queue
        AND job_limit_keys.limit_key NOT IN (SELECT limit_key FROM gone)
""")  # noqa: S608  # made of constants


async def admit(session: Session, *, queue: str, max_jobs: int = MOST_AT_ONCE) -> int:
    """Make up to `max_jobs` jobs of the queue due that waited for their limit and may run now; return how many.

    Call it when a claim says `may_admit`, in a transaction, and claim again afterwards. It admits nothing to a paused
    queue. If the keys of other queues may go on too, relays are notified after the commit.
    """
    names = (await session.scalars(_LOCK, {"queue": queue})).all()
    if not names:
        return 0
    about = {"queue": queue, "names": names}
    concerns_others = (await session.scalars(_READ_SIGNALS, {**about, "most": MOST_SIGNALS})).one()
    if concerns_others:
        notify_after_commit(session)
    rows = (await session.execute(_ADMIT, {**about, "max_jobs": max_jobs})).all()
    if not rows:
        return 0
    await session.execute(_LOOK_AGAIN, {**about, "keys": [row.limit_key for row in rows]})
    return int(rows[0].jobs)
