"""The SQL of the relay: which jobs are due, and what is on its way to a worker."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from app_db.engine import Session
from app_db.jobs.ledger import Delivery

MAX_CRASHES = 5
"""A job that took its worker down so often is discarded: it would take all of them down (jobs.md §3.3)."""

# A crash costs no attempt: the attempt was not the job's failure, and the cap above ends what crashes always.
_CLAIM = text("""
    WITH due AS (
        SELECT id, state = 'executing' AND crashes + 1 >= :max_crashes AS is_poison,
            EXISTS (SELECT FROM job_cancellations WHERE job_id = jobs.id) AS is_cancelled
        FROM jobs
        WHERE queue = :queue AND claim_at IS NOT NULL AND claim_at <= now()
        ORDER BY priority, claim_at LIMIT :room FOR NO KEY UPDATE SKIP LOCKED
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
    SELECT id, fence FROM claimed WHERE state = 'dispatched' ORDER BY priority, due_at
""")

_MAKE_DUE = text("""
    UPDATE jobs SET claim_at = now(), state = 'available'
    FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])) AS lost (id, fence)
    WHERE jobs.id = lost.id AND jobs.fence = lost.fence AND state = 'dispatched'
""")


async def claim(session: Session, *, queue: str, room: int, lease: timedelta) -> list[Delivery]:
    """Take up to `room` due jobs for delivery; unless somebody starts them within `lease` they are due again.

    They come in the order in which they are to run, and concurrent relays get different ones. A job whose lease ran out
    while it was executing counts a crash, and the attempt is given back; one that somebody wants cancelled ends here.
    """
    rows = await session.execute(_CLAIM, {"queue": queue, "room": room, "lease": lease, "max_crashes": MAX_CRASHES})
    return [Delivery(row.id, row.fence) for row in rows]


async def make_due(session: Session, deliveries: Sequence[Delivery]) -> None:
    """Give back deliveries that could not be sent, so that they are due at once instead of after their lease."""
    await session.execute(_MAKE_DUE, _ids_and_fences(deliveries))


def _ids_and_fences(deliveries: Sequence[Delivery]) -> dict[str, Any]:
    return {"ids": [delivery.id for delivery in deliveries], "fences": [delivery.fence for delivery in deliveries]}
