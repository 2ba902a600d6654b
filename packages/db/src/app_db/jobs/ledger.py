"""The SQL of one job's run. Every change of state is one UPDATE, fenced by `(id, fence)` and the state it leaves."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, column, text
from sqlalchemy.dialects.postgresql import JSONB

from app_db.driver import DriverConnection
from app_db.engine import Database
from app_db.models import JobState
from app_db.session import Session

MILLISECOND = timedelta(milliseconds=1)
UNMARKED_REDELIVERIES = 2
"""After so many deliveries that led to nothing, the start of a tx job goes on record first, so that a crash counts."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One claim of one job: what is sent through Valkey, and the fence of every later statement."""

    id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class Starter:
    """Who starts jobs, and how."""

    worker_id: UUID
    leased_kinds: list[str]
    """Those whose start is on record before their handler runs."""
    lease: timedelta


@dataclass(frozen=True, slots=True)
class StartedJob:
    """What the runner learns about a job when it takes it."""

    is_marked: bool
    """Whether the start has to be committed before the handler runs; see `start`."""
    kind: str
    payload: dict[str, Any]  # Any: checked against its payload class before a handler sees it
    payload_version: int
    attempt: int
    max_attempts: int | None
    crashes: int
    owner_id: UUID | None
    request_id: str | None
    traceparent: str | None
    run_at: datetime


_IS_LEASED = "kind = ANY(CAST(:leased AS text[]))"
_IS_MARKED = f"({_IS_LEASED} OR redeliveries >= {UNMARKED_REDELIVERIES})"

_START = text(f"""
    UPDATE jobs SET
        state = CASE WHEN {_IS_MARKED} THEN 'executing' ELSE 'completed' END,
        claim_at = CASE WHEN {_IS_MARKED} THEN now() + CAST(:lease AS interval) END,
        finished_at = CASE WHEN {_IS_MARKED} THEN NULL ELSE now() END,
        started_at = now(), attempt = least(attempt + 1, 32767), worker_id = :worker_id
    WHERE id = :id AND fence = :fence AND state = 'dispatched' AND (NOT :leased_only OR {_IS_LEASED})
        AND NOT EXISTS (SELECT FROM job_cancellations WHERE job_id = :id)
    RETURNING state = 'executing', kind, payload, payload_version, attempt, max_attempts, crashes, owner_id,
        request_id, traceparent, run_at
""").columns(  # noqa: S608  # made of constants
    # By position: only so SQLAlchemy remembers how to read the row, and does not find it out again for each job.
    column("is_marked"), column("kind"), column("payload", JSONB), column("payload_version"), column("attempt"),
    column("max_attempts"), column("crashes"), column("owner_id"), column("request_id"), column("traceparent"),
    column("run_at"),
)  # fmt: skip

# A wish to cancel that came while the job ran is granted instead of another attempt.
_FINISH = (
    text("""
    UPDATE jobs SET
        state = CASE WHEN is_cancelled THEN 'cancelled' ELSE :state END,
        claim_at = CASE WHEN NOT is_cancelled THEN now() + due_in END,
        finished_at = CASE WHEN is_cancelled OR due_in IS NULL THEN now() END,
        -- Where the start was rolled back its attempt was, too.
        attempt = attempt + CAST(jobs.state = 'dispatched' AS integer) - CAST(NOT :costs_attempt AS integer),
        result = :result, progress = coalesce(:progress, progress)
    FROM (
        SELECT CAST(:due_in AS interval) AS due_in, CAST(:due_in AS interval) IS NOT NULL
            AND EXISTS (SELECT FROM job_cancellations WHERE job_id = :id) AS is_cancelled
    ) AS wish
    WHERE id = :id AND fence = :fence AND jobs.state IN ('dispatched', 'executing')
    RETURNING jobs.state
""")
    .bindparams(
        bindparam("result", type_=JSONB(none_as_null=True)), bindparam("progress", type_=JSONB(none_as_null=True))
    )
    .columns(column("state"))
)

_SET_RESULT = text("""
    UPDATE jobs SET result = :result WHERE id = :id AND fence = :fence AND state = 'completed'
""").bindparams(bindparam("result", type_=JSONB))

# Once for each attempt and cause: a job that waits for a newer worker would add a line a minute.
_RECORD_ERROR = text("""
    INSERT INTO job_errors (id, job_id, attempt, error, trace)
    SELECT uuidv7(), :id, :attempt, :error, :trace WHERE NOT EXISTS (
        SELECT FROM job_errors WHERE job_id = :id AND attempt = :attempt AND error = :error
    )
""")

# NO KEY: a request to cancel refers to the row, and must not wait. A worker that froze in here lets go after a while.
# A timer that runs is not set anew, so it is stopped first.
_HOLD = text("""
    SELECT set_config('idle_in_transaction_session_timeout', :idle, true),
        set_config('transaction_timeout', '0', true), set_config('transaction_timeout', :total, true)
    FROM jobs WHERE id = :id AND fence = :fence AND state = 'executing' FOR NO KEY UPDATE
""")

_PROGRESS = text("""
    UPDATE jobs SET progress = :progress WHERE id = :id AND fence = :fence AND state = 'executing' RETURNING id
""").bindparams(bindparam("progress", type_=JSONB))

_EXTEND = text("""
    UPDATE jobs SET claim_at = clock_timestamp() + CAST(:lease AS interval)
    WHERE id = :id AND fence = :fence AND state = 'executing'
""")


async def start(session: Session, delivery: Delivery, starter: Starter) -> StartedJob | None:
    """Take a delivered job, or return None when this delivery is stale or somebody wants the job cancelled.

    A leased kind is marked executing for the length of the lease: commit before the handler runs. Any other kind is
    marked completed already, in the transaction that the handler's writes join: both commit or neither.
    The row lock is held meanwhile, so no relay dispatches it again and a second delivery waits, then finds nothing.
    Only where deliveries led to nothing twice is its start marked too, to tell a crash from a loss; then call `finish`
    before its handler.
    """
    row = (await session.execute(_START, _to_start(delivery, starter, leased_only=False))).one_or_none()
    return None if row is None else StartedJob(*row)


async def start_leased(database: Database, delivery: Delivery, starter: Starter) -> StartedJob | None:
    """Do what `start` does, as a transaction by itself and for a leased kind only; None also for another kind.

    When it raises, the start may be on record nevertheless.
    """
    row = await database.write_one(_START, _to_start(delivery, starter, leased_only=True))
    return None if row is None else StartedJob(*row)


async def finish(
    session: Session,
    delivery: Delivery,
    *,
    state: JobState,
    costs_attempt: bool = True,
    due_in: timedelta | None = None,
    result: Any = None,  # Any: JSON
    progress: Any = None,  # Any: JSON
) -> JobState | None:
    """Move a job that this delivery holds to `state`, due again after `due_in` or, without it, at its end.

    Unless it `costs_attempt`, the attempt does not count.

    Returns the state it is in now: CANCELLED instead of `state` if it was to run again and somebody wants it cancelled;
    None, and nothing has changed, when the delivery holds the job no longer.
    """
    parameters = _to_finish(delivery, state, result, progress) | {"costs_attempt": costs_attempt, "due_in": due_in}
    row = (await session.execute(_FINISH, parameters)).one_or_none()
    return None if row is None else JobState(row.state)


async def complete(database: Database, delivery: Delivery, *, result: Any, progress: Any) -> bool:  # Any: JSON
    """Complete a job that this delivery holds, as a transaction by itself; False when it holds it no longer."""
    return await database.write_one(_FINISH, _to_finish(delivery, JobState.COMPLETED, result, progress)) is not None


async def set_result(session: Session, delivery: Delivery, result: Any) -> None:  # Any: JSON
    """Keep the result of a job whose completion is part of this transaction."""
    await session.execute(_SET_RESULT, {**_key(delivery), "result": result})


async def record_error(session: Session, delivery: Delivery, *, attempt: int, error: str, trace: str | None) -> None:
    """Add to the attempt history of the job; the same error of the same attempt is there once."""
    await session.execute(_RECORD_ERROR, {"id": delivery.id, "attempt": attempt, "error": error, "trace": trace})


async def hold(session: Session, delivery: Delivery, *, idle: timedelta, total: timedelta) -> bool:
    """Lock the job for this transaction; False when the delivery holds it no longer, so nothing may be written.

    Postgres ends the transaction when it has waited `idle` for its next statement, or has taken `total` from now on;
    whoever asks it next gets a TransactionEnded.
    """
    milliseconds = {"idle": f"{idle / MILLISECOND:.0f}", "total": f"{total / MILLISECOND:.0f}"}
    parameters = {**_key(delivery), **milliseconds}
    if (await session.execute(_HOLD, parameters)).one_or_none() is None:
        return False
    driver = session.sync_session.connection().connection.driver_connection  # which is there: nothing is waited for
    assert isinstance(driver, DriverConnection), "what app_db.hosts makes"
    driver.limit(idle=idle, total=total)  # guard: test_a_transaction_that_waits_too_long_is_a_failure_of_its_handler
    return True


async def set_progress(session: Session, delivery: Delivery, progress: Any) -> bool:  # Any: JSON
    """Show the owner how far the job is; False when the delivery holds it no longer."""
    return (await session.execute(_PROGRESS, {**_key(delivery), "progress": progress})).one_or_none() is not None


async def extend(session: Session, delivery: Delivery, *, lease: timedelta) -> None:
    """Renew the lease of a job that this transaction holds; heartbeats pass over its locked row."""
    await session.execute(_EXTEND, {**_key(delivery), "lease": lease})


def _to_start(delivery: Delivery, starter: Starter, *, leased_only: bool) -> dict[str, Any]:
    who = {"worker_id": starter.worker_id, "leased": starter.leased_kinds, "lease": starter.lease}
    return {**_key(delivery), **who, "leased_only": leased_only}


def _to_finish(delivery: Delivery, state: JobState, result: Any, progress: Any) -> dict[str, Any]:
    about = {"state": state, "costs_attempt": True, "due_in": None, "result": result, "progress": progress}
    return {**_key(delivery), **about}


def _key(delivery: Delivery) -> dict[str, Any]:
    return {"id": delivery.id, "fence": delivery.fence}
