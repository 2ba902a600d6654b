"""The SQL of the relay: which jobs are due, and what is on its way to a worker."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, text

from app_db.engine import Session
from app_db.jobs.ledger import Delivery
from app_db.models import JobState

MAX_CRASHES = 5
"""A job that took its worker down so often is discarded: it would take all of them down (ADR-0008)."""

LATENESS = timedelta(seconds=30)
"""A transaction that commits a job later than this after it began may have it overlooked until the next full look."""

# The row stays locked until the claim commits: a pause waits for it, and two relays cannot both fill the same gap.
# A relay that freezes in between must not keep the operator, and all other relays, waiting.
_LIMITS = text("""
    SELECT paused_at IS NOT NULL AS is_paused, max_running,
        set_config('idle_in_transaction_session_timeout', '5000', true)
    FROM job_queues WHERE name = :queue FOR NO KEY UPDATE
""")

_ADD_QUEUE = text("INSERT INTO job_queues (name) VALUES (:queue) ON CONFLICT DO NOTHING")

_RUNNING = text("SELECT count(*) FROM jobs WHERE queue = :queue AND state IN ('dispatched', 'executing')")


# A crash costs no attempt: the attempt was not the job's failure, and the cap above ends what crashes always.
_CLAIM = """
    WITH due AS (
        SELECT id, state = 'executing' AND crashes + 1 >= :max_crashes AS is_poison,
            EXISTS (SELECT FROM job_cancellations WHERE job_id = jobs.id) AS is_cancelled
        FROM jobs
        WHERE queue = :queue AND claim_at IS NOT NULL AND claim_at <= now() AND %s
        LIMIT :room FOR NO KEY UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE jobs SET
            state = CASE WHEN is_cancelled THEN 'cancelled' WHEN is_poison THEN 'discarded' ELSE 'dispatched' END,
            claim_at = CASE WHEN NOT is_poison AND NOT is_cancelled THEN now() + CAST(:lease AS interval) END,
            finished_at = CASE WHEN is_poison OR is_cancelled THEN now() END,
            fence = fence + 1,
            redeliveries = redeliveries + CAST(state = 'dispatched' AS integer),
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
    SELECT id, fence, state, was FROM claimed ORDER BY priority, due_at
"""


_CLAIM_DUE = text(_CLAIM % "claim_at >= coalesce(CAST(:since AS timestamptz), '-infinity') ORDER BY priority, claim_at")
# A sum, so that the order does not tempt Postgres into the index of all due jobs: these are few, and have their own.
_CLAIM_ORPHANS = text(_CLAIM % "state IN ('dispatched', 'executing') ORDER BY priority + 0, claim_at")

_OLDEST_DUE = text("""
    SELECT least(min(claim_at), now() - CAST(:lateness AS interval)) FROM jobs
    WHERE queue = :queue AND claim_at IS NOT NULL AND claim_at <= now()
""")

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


async def claim(session: Session, *, queue: str, room: int, lease: timedelta, since: datetime | None = None) -> Claim:
    """Take up to `room` due jobs for delivery; unless somebody starts them within `lease` they are due again.

    They come in the order in which they are to run, and concurrent relays get different ones. A job whose lease ran out
    while it was executing counts a crash, and the attempt is given back; one that somebody wants cancelled ends here.

    Nothing is taken from a paused queue. In one with a limit no more are on their way or running than it allows; those
    whose lease ran out are among them already, so they are taken even when the limit is reached.

    Args:
        session: whose transaction it is; commit before anything is sent.
        queue: a queue without a row in `job_queues` has no limits.
        room: how many at most.
        lease: how long nobody else takes them.
        since: only look at what has been due since then: `oldest_due` of a moment ago, which spares the index entries
            that vacuum could not remove yet.
    """
    limits = (await session.execute(_LIMITS, {"queue": queue})).one_or_none()
    if limits is not None and limits.is_paused:
        return Claim()
    parameters = {"queue": queue, "lease": lease, "max_crashes": MAX_CRASHES}
    if limits is not None and limits.max_running is not None:
        running = await session.scalar(_RUNNING, {"queue": queue})
        free = limits.max_running - running
        if free <= 0:
            return _claimed((await session.execute(_CLAIM_ORPHANS, {**parameters, "room": room})).all(), more_due=True)
        room = min(room, free)  # guard: test_no_more_jobs_are_on_their_way_than_the_limit_allows
    rows = (await session.execute(_CLAIM_DUE, {**parameters, "room": room, "since": since})).all()
    return _claimed(rows, more_due=len(rows) == room)


async def add_queue(session: Session, queue: str) -> None:
    """Put a queue on record unless it is there, so that whoever pauses it waits for the claims in progress."""
    await session.execute(_ADD_QUEUE, {"queue": queue})


async def oldest_due(session: Session, queue: str) -> datetime:
    """Return what `claim` may start from for some seconds: since when the oldest job is due, or `LATENESS` ago."""
    parameters = {"queue": queue, "lateness": LATENESS}
    since: datetime = (await session.execute(_OLDEST_DUE, parameters)).scalar_one()
    return since


async def make_due(session: Session, deliveries: Sequence[Delivery]) -> None:
    """Give back deliveries that could not be sent, so that they are due at once instead of after their lease."""
    await session.execute(_MAKE_DUE, _ids_and_fences(deliveries))


async def extend_waiting(session: Session, deliveries: Sequence[Delivery], *, lease: timedelta) -> None:
    """Renew the lease of what nobody has started yet: it waits behind others, and must not be delivered twice."""
    await session.execute(_EXTEND_WAITING, {**_ids_and_fences(deliveries), "lease": lease})


def _claimed(rows: Sequence[Row[Any]], *, more_due: bool) -> Claim:  # Any: the columns of a text statement
    return Claim(
        [Delivery(row.id, row.fence) for row in rows if row.state == JobState.DISPATCHED],
        redelivered=sum(row.was == JobState.DISPATCHED for row in rows),
        crashed=sum(row.was == JobState.EXECUTING for row in rows),
        more_due=more_due,
    )


def _ids_and_fences(deliveries: Sequence[Delivery]) -> dict[str, Any]:
    return {"ids": [delivery.id for delivery in deliveries], "fences": [delivery.fence for delivery in deliveries]}
