"""The SQL of the job ledger. Every change of state is one UPDATE, fenced by `(id, fence)` and the state it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from app_db.engine import Session
from app_db.models import JobState

MAX_CRASHES = 5
"""A job that took its worker down so often is discarded: it would take all of them down (jobs.md §3.3)."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One dispatch of one job: what is sent through Valkey, and what every later statement is fenced by."""

    id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class StartedJob:
    """What the runner learns about a job when it takes it."""

    kind: str
    payload: dict[str, Any]  # Any: checked against its payload class before a handler sees it
    payload_version: int
    attempt: int
    max_attempts: int | None
    owner_id: UUID | None
    request_id: str | None


_CLAIM = text("""
    WITH due AS (
        SELECT id, state = 'executing' AND crashes + 1 >= :max_crashes AS is_poison FROM jobs
        WHERE queue = :queue AND claim_at IS NOT NULL AND claim_at <= now()
        ORDER BY priority, claim_at LIMIT :room FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE jobs SET
            state = CASE WHEN is_poison THEN 'discarded' ELSE 'dispatched' END,
            claim_at = CASE WHEN NOT is_poison THEN now() + CAST(:lease AS interval) END,
            finished_at = CASE WHEN is_poison THEN now() END,
            fence = fence + 1,
            redeliveries = redeliveries + CAST(state = 'dispatched' AS integer),
            crashes = crashes + CAST(state = 'executing' AS integer)
        FROM due WHERE jobs.id = due.id
        RETURNING jobs.id, jobs.fence, jobs.attempt, jobs.state, jobs.priority, old.state AS was, old.claim_at AS due_at
    ), crashed AS (
        INSERT INTO job_errors (id, job_id, attempt, error)
        SELECT uuidv7(), id, attempt, 'The worker died, or lost its lease, while it ran this attempt.'
        FROM claimed WHERE was = 'executing'
    )
    SELECT id, fence FROM claimed WHERE state = 'dispatched' ORDER BY priority, due_at
""")

_MAKE_DUE = text("""
    UPDATE jobs SET claim_at = now(), state = 'available'
    FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])) AS lost (id, fence)
    WHERE jobs.id = lost.id AND jobs.fence = lost.fence AND state = 'dispatched'
""")

_START = text("""
    UPDATE jobs SET
        state = CASE WHEN kind = ANY(CAST(:leased AS text[])) THEN 'executing' ELSE 'completed' END,
        claim_at = CASE WHEN kind = ANY(CAST(:leased AS text[])) THEN now() + CAST(:lease AS interval) END,
        finished_at = CASE WHEN kind = ANY(CAST(:leased AS text[])) THEN NULL ELSE now() END,
        started_at = now(), attempt = attempt + 1, worker_id = :worker_id
    WHERE id = :id AND fence = :fence AND state = 'dispatched'
    RETURNING kind, payload, payload_version, attempt, max_attempts, owner_id, request_id
""").columns(payload=JSONB)

_FINISH = text("""
    UPDATE jobs SET
        state = :state, attempt = :attempt, claim_at = now() + CAST(:due_in AS interval),
        finished_at = CASE WHEN CAST(:due_in AS interval) IS NULL THEN now() END, result = :result
    WHERE id = :id AND fence = :fence AND state IN ('dispatched', 'executing')
    RETURNING id
""").bindparams(bindparam("result", type_=JSONB(none_as_null=True)))

_RECORD_ERROR = text("""
    INSERT INTO job_errors (id, job_id, attempt, error, trace) VALUES (uuidv7(), :id, :attempt, :error, :trace)
""")

# NO KEY: a request to cancel refers to the row, and must not wait.
_HOLD = text("SELECT id FROM jobs WHERE id = :id AND fence = :fence AND state = 'executing' FOR NO KEY UPDATE")

_PROGRESS = text("""
    UPDATE jobs SET progress = :progress WHERE id = :id AND fence = :fence AND state = 'executing' RETURNING id
""").bindparams(bindparam("progress", type_=JSONB))

# A job whose handler is in a transaction has its row locked: waiting for it would cost all the others their leases.
_EXTEND = text("""
    WITH ours AS (
        SELECT id, fence FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])) AS ours (id, fence)
    ), unlocked AS (
        SELECT jobs.id FROM jobs JOIN ours USING (id, fence) WHERE state = 'executing'
        FOR NO KEY UPDATE OF jobs SKIP LOCKED
    ), extended AS (
        UPDATE jobs SET claim_at = clock_timestamp() + CAST(:lease AS interval)
        FROM unlocked WHERE jobs.id = unlocked.id
    )
    SELECT id, fence FROM jobs JOIN ours USING (id, fence) WHERE state = 'executing'
""")


_ADVANCE = text("""
    INSERT INTO job_crons AS cron (name, last_tick_at) VALUES (:name, :tick)
    ON CONFLICT (name) DO UPDATE SET last_tick_at = excluded.last_tick_at
        WHERE cron.last_tick_at < excluded.last_tick_at
    RETURNING old.name
""")


async def claim(session: Session, *, queue: str, room: int, lease: timedelta) -> list[Delivery]:
    """Take up to `room` due jobs for delivery; unless somebody starts them within `lease` they are due again.

    They come in the order in which they are to run, and concurrent relays get different ones. A job whose lease ran out
    while it was executing counts a crash.
    """
    rows = await session.execute(_CLAIM, {"queue": queue, "room": room, "lease": lease, "max_crashes": MAX_CRASHES})
    return [Delivery(row.id, row.fence) for row in rows]


async def make_due(session: Session, deliveries: Sequence[Delivery]) -> None:
    """Give back deliveries that could not be sent, so that they are due at once instead of after their lease."""
    await session.execute(_MAKE_DUE, _ids_and_fences(deliveries))


async def start(
    session: Session, delivery: Delivery, *, leased_kinds: Sequence[str], worker_id: UUID, lease: timedelta
) -> StartedJob | None:
    """Take a delivered job, or return None when this delivery is stale.

    A kind in `leased_kinds` is marked executing for the length of `lease`: commit before the handler runs. Any other
    kind is marked completed already, in the transaction that the handler's writes join: both commit or neither.
    The row lock is held meanwhile, so no relay dispatches it again and a second delivery waits, then finds nothing.
    """
    row = (
        await session.execute(
            _START,
            {**_key(delivery), "leased": list(leased_kinds), "worker_id": worker_id, "lease": lease},
        )
    ).one_or_none()
    return None if row is None else StartedJob(*row)


async def finish(
    session: Session,
    delivery: Delivery,
    *,
    state: JobState,
    attempt: int,
    due_in: timedelta | None = None,
    result: Any = None,  # Any: JSON
) -> bool:
    """Move a job that this delivery holds to `state`, due again after `due_in` or, without it, at its end.

    Returns False, and changes nothing, when the delivery holds the job no longer.
    """
    row = await session.execute(
        _FINISH, {**_key(delivery), "state": state, "attempt": attempt, "due_in": due_in, "result": result}
    )
    return row.one_or_none() is not None


async def record_error(session: Session, delivery: Delivery, *, attempt: int, error: str, trace: str | None) -> None:
    """Add to the attempt history of the job."""
    await session.execute(_RECORD_ERROR, {"id": delivery.id, "attempt": attempt, "error": error, "trace": trace})


async def hold(session: Session, delivery: Delivery) -> bool:
    """Lock the job for this transaction; False when the delivery holds it no longer, so nothing may be written."""
    return (await session.execute(_HOLD, _key(delivery))).one_or_none() is not None


async def set_progress(session: Session, delivery: Delivery, progress: Any) -> bool:  # Any: JSON
    """Show the owner how far the job is; False when the delivery holds it no longer."""
    return (await session.execute(_PROGRESS, {**_key(delivery), "progress": progress})).one_or_none() is not None


async def extend(session: Session, deliveries: Sequence[Delivery], *, lease: timedelta) -> set[Delivery]:
    """Renew the leases of running jobs in one statement, and return those that are still held.

    One whose row is locked is held, but not renewed: no relay takes it before the lock is gone.
    """
    rows = await session.execute(_EXTEND, {**_ids_and_fences(deliveries), "lease": lease})
    return {Delivery(row.id, row.fence) for row in rows}


async def advance_cron(session: Session, name: str, *, tick: datetime) -> bool:
    """Claim a tick for this transaction: True for exactly one caller, however many workers try and when.

    A cron that was never seen starts at `tick` without firing.
    """
    previous = (await session.execute(_ADVANCE, {"name": name, "tick": tick})).one_or_none()
    return previous is not None and previous.name is not None


async def database_time(session: Session) -> datetime:
    """Postgres's clock, the only one that decides when something is due."""
    now: datetime = (await session.scalars(text("SELECT now()"))).one()
    return now


def _key(delivery: Delivery) -> dict[str, Any]:
    return {"id": delivery.id, "fence": delivery.fence}


def _ids_and_fences(deliveries: Sequence[Delivery]) -> dict[str, Any]:
    return {"ids": [delivery.id for delivery in deliveries], "fences": [delivery.fence for delivery in deliveries]}
