"""The SQL of the relay: which jobs are due, and what is on its way to a worker."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import TextClause, text

from app_db.engine import Session
from app_db.jobs.ledger import Delivery
from app_db.models import JobState

MAX_CRASHES = 5
"""A job that took its worker down so often is discarded: it would take all of them down (ADR-0008)."""

LATENESS = timedelta(seconds=30)
"""A transaction that commits a job later than this after it began may have it overlooked until the next full look."""

_ADD_QUEUE = text("INSERT INTO job_queues (name) VALUES (:queue) ON CONFLICT DO NOTHING")

# The row stays locked until the claim commits: a pause waits for it, and two relays cannot both fill the same gap.
# That commit need not reach the disk: what starts one of the deliveries is flushed after it, so a crash of Postgres
# takes back only claims that have led to nothing.
_LIMITS = """
    SELECT paused_at IS NOT NULL AS is_paused, max_running, set_config('synchronous_commit', 'off', true)
    FROM job_queues WHERE name = :queue FOR NO KEY UPDATE
"""

# A relay that freezes before its next statement must not keep the operator, and all other relays, waiting.
_LOCK_LIMITS = text(f"""
    SELECT max_running, set_config('idle_in_transaction_session_timeout', '5000', true) FROM ({_LIMITS}) AS limits
""")  # noqa: S608  # made of a constant
_ON_THEIR_WAY = text("""
    SELECT count(*) FROM jobs WHERE queue = :queue AND claim_at IS NOT NULL AND state IN ('dispatched', 'executing')
""")

# A failed attempt lets go of its row before its outcome is on record, by when its lease may be long over: what a worker
# that lives has in hand is not taken from it.
# A crash costs no attempt: the attempt was not the job's failure, and the cap above ends what crashes always.
# Whoever has counted what runs says so; else nothing is taken from a queue with a limit.
_CLAIM = """
    WITH limits AS MATERIALIZED ({limits}), due AS (
        SELECT id, state = 'executing' AND crashes + 1 >= :max_crashes AS is_poison,
            EXISTS (SELECT FROM job_cancellations WHERE job_id = jobs.id) AS is_cancelled
        FROM jobs
        WHERE queue = :queue AND claim_at IS NOT NULL AND claim_at <= now()
            AND coalesce((SELECT NOT is_paused AND (max_running IS NULL OR :is_counted) FROM limits), true)
            AND (state NOT IN ('dispatched', 'executing') OR NOT EXISTS (
                SELECT FROM job_workers WHERE holds_until > now() AND jobs.id = ANY (holding)
            ))
            AND {which}
        LIMIT :room FOR NO KEY UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE jobs SET
            state = CASE WHEN is_cancelled THEN 'cancelled' WHEN is_poison THEN 'discarded' ELSE 'dispatched' END,
            claim_at = CASE WHEN NOT is_poison AND NOT is_cancelled THEN now() + CAST(:lease AS interval) END,
            finished_at = CASE WHEN is_poison OR is_cancelled THEN now() END,
            -- Whatever has been counted to the end of its type must not stop the claim of all the others.
            fence = fence % 2147483647 + 1,
            redeliveries = least(redeliveries, 2147483646) + CAST(state = 'dispatched' AS integer),
            crashes = crashes + CAST(state = 'executing' AS integer),
            attempt = attempt - CAST(state = 'executing' AS integer)
        FROM due WHERE jobs.id = due.id
        RETURNING jobs.id, jobs.fence, jobs.state, jobs.priority,
            old.state AS was, old.attempt AS crashed_attempt, old.claim_at AS due_at
    ), crashed AS (
        INSERT INTO job_errors (id, job_id, attempt, error)
        SELECT uuidv7(), id, crashed_attempt, 'The worker died, or lost its lease, while it ran this attempt.'
        FROM claimed WHERE was = 'executing'
    )
    SELECT id, fence, state, was, has_limit
    FROM (SELECT coalesce((SELECT max_running IS NOT NULL FROM limits), false)) AS queue (has_limit)
        LEFT JOIN claimed ON true
    ORDER BY priority, due_at
"""

_CLAIM_DUE = text(
    _CLAIM.format(
        limits=_LIMITS,
        which="claim_at >= coalesce(CAST(:since AS timestamptz), '-infinity') ORDER BY priority, claim_at",
    )
)
# A sum, so that the order does not tempt Postgres into the index of all due jobs: these are few, and have their own.
_CLAIM_ORPHANS = text(
    _CLAIM.format(limits=_LIMITS, which="state IN ('dispatched', 'executing') ORDER BY priority + 0, claim_at")
)

_OLDEST_DUE = text("""
    SELECT least(min(claim_at), now() - CAST(:lateness AS interval)) FROM jobs
    WHERE queue = :queue AND claim_at IS NOT NULL AND claim_at <= now()
""")

_IS_PAUSED = text("SELECT paused_at IS NOT NULL FROM job_queues WHERE name = :queue")

_MAKE_DUE = text("""
    WITH unsent AS (
        SELECT jobs.id FROM jobs JOIN unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])) AS sent (id, fence)
            USING (id, fence)
        WHERE state = 'dispatched' FOR NO KEY UPDATE OF jobs SKIP LOCKED
    )
    UPDATE jobs SET claim_at = now(), state = 'available' FROM unsent WHERE jobs.id = unsent.id
""")

# What was taken from Valkey meanwhile may be running in a transaction that holds its row for minutes.
_EXTEND_WAITING = text("""
    WITH waiting AS (
        SELECT jobs.id FROM jobs JOIN unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])) AS sent (id, fence)
            USING (id, fence)
        WHERE state = 'dispatched' FOR NO KEY UPDATE OF jobs SKIP LOCKED
    )
    UPDATE jobs SET claim_at = now() + CAST(:lease AS interval) FROM waiting WHERE jobs.id = waiting.id
""")


@dataclass(frozen=True, slots=True)
class Claim:
    """What one look of a relay took."""

    deliveries: Sequence[Delivery] = ()
    """In the order in which they are to run."""
    redelivered: int = 0
    """How many jobs were delivered before, and nobody had started them."""
    crashed: int = 0
    """How many had lost their worker while it ran them."""
    more_due: bool = False
    """Whether due jobs may have been left behind, for want of room or because of the queue's limit."""
    has_limit: bool = False
    """Whether the queue has a limit to what runs at once."""


async def claim(session: Session, *, queue: str, room: int, lease: timedelta, since: datetime | None = None) -> Claim:
    """Take up to `room` due jobs for delivery; unless somebody starts them within `lease` they are due again.

    They come in the order in which they are to run, and concurrent relays get different ones. A job whose lease ran out
    while it was executing counts a crash, and the attempt is given back; one that somebody wants cancelled ends here.

    It is one statement, so a session in autocommit will do. Nothing is taken from a paused queue, nor from one with a
    limit: that takes `claim_within_limit`.

    Args:
        session: whose transaction it is; commit before anything is sent.
        queue: a queue without a row in `job_queues` has no limits.
        room: how many at most.
        lease: how long nobody else takes them.
        since: only look at what has been due since then: `oldest_due` of a moment ago, which spares the index entries
            that vacuum could not remove yet.
    """
    return await _take(session, _CLAIM_DUE, room=room, queue=queue, lease=lease, since=since, is_counted=False)


async def claim_within_limit(session: Session, *, queue: str, room: int, lease: timedelta) -> Claim:
    """Do what `claim` does for a queue that may have a limit: no more are on their way or running than it allows.

    Those whose lease ran out are among them already, so they are taken even when the limit is reached. Needs a
    transaction: what runs can be counted only after the queue is locked.
    """
    max_running = await session.scalar(_LOCK_LIMITS, {"queue": queue})
    take = partial(_take, session, queue=queue, lease=lease, since=None, is_counted=True)
    if max_running is not None:
        free = max_running - await session.scalar(_ON_THEIR_WAY, {"queue": queue})
        if free <= 0:
            return replace(await take(_CLAIM_ORPHANS, room=room), more_due=True)
        room = min(room, free)  # guard: test_no_more_jobs_are_on_their_way_than_the_limit_allows
    return await take(_CLAIM_DUE, room=room)


async def add_queue(session: Session, queue: str) -> None:
    """Put a queue on record unless it is there, so that whoever pauses it waits for the claims in progress."""
    await session.execute(_ADD_QUEUE, {"queue": queue})


async def oldest_due(session: Session, queue: str) -> datetime:
    """Return what `claim` may start from for some seconds: since when the oldest job is due, or `LATENESS` ago."""
    parameters = {"queue": queue, "lateness": LATENESS}
    since: datetime = (await session.execute(_OLDEST_DUE, parameters)).scalar_one()
    return since


async def is_paused(session: Session, queue: str) -> bool:
    """Whether no job of the queue is to start."""
    return bool(await session.scalar(_IS_PAUSED, {"queue": queue}))


async def make_due(session: Session, deliveries: Sequence[Delivery]) -> None:
    """Give back deliveries that nobody will start, so that they are due at once instead of after their lease."""
    await session.execute(_MAKE_DUE, _ids_and_fences(deliveries))


async def extend_waiting(session: Session, deliveries: Sequence[Delivery], *, lease: timedelta) -> None:
    """Renew the lease of what nobody has started yet: it waits behind others, and must not be delivered twice."""
    await session.execute(_EXTEND_WAITING, {**_ids_and_fences(deliveries), "lease": lease})


async def _take(session: Session, statement: TextClause, *, room: int, **parameters: Any) -> Claim:  # Any: of SQL
    parameters |= {"room": room, "max_crashes": MAX_CRASHES}
    rows = (await session.execute(statement, parameters)).all()
    taken = [row for row in rows if row.id is not None]  # of none there is one row, which speaks of the queue
    return Claim(
        tuple(Delivery(row.id, row.fence) for row in taken if row.state == JobState.DISPATCHED),
        redelivered=sum(row.was == JobState.DISPATCHED for row in taken),
        crashed=sum(row.was == JobState.EXECUTING for row in taken),
        more_due=len(taken) == room,
        has_limit=rows[0].has_limit,
    )


def _ids_and_fences(deliveries: Sequence[Delivery]) -> dict[str, Any]:
    return {"ids": [delivery.id for delivery in deliveries], "fences": [delivery.fence for delivery in deliveries]}
