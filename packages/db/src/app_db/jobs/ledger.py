"""The SQL of a run: start, progress, finish. Each change of state is one UPDATE, fenced by id, fence and old state."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Executable, bindparam, column, text
from sqlalchemy.dialects.postgresql import JSONB

from app_db.driver import DriverConnection
from app_db.engine import AnyRow
from app_db.models import JobState
from app_db.session import Session

MILLISECOND = timedelta(milliseconds=1)
UNMARKED_REDELIVERIES = 2
"""After so many redeliveries, the start of a tx job is committed before its handler runs, so that a crash counts."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One claim of one job: the message that goes through Valkey, and the fence of every later statement."""

    id: UUID
    fence: int


@dataclass(frozen=True, slots=True)
class Starter:
    """The worker that starts jobs, its kinds in lease mode, and its lease."""

    worker_id: UUID
    leased_kinds: list[str]
    """The kinds in lease mode: their start is committed before their handler runs."""
    lease: timedelta


@dataclass(frozen=True, slots=True)
class StartedJob:
    """The columns of a job that its start returns to the runner."""

    kind: str
    payload: str
    """As JSON: a number that Python refuses to read must not fail the statement."""
    payload_version: int
    attempt: int
    max_attempts: int | None
    crashes: int
    owner_id: UUID | None
    request_id: str | None
    traceparent: str | None
    run_at: datetime
    steps: str | None = None
    """As JSON: what an attempt before has committed, a list of `{"name", "result"}`."""
    cursor: str | None = None
    """As JSON."""
    batch_id: UUID | None = None
    is_marked: bool = True
    """Whether the start has to be committed before the handler runs; see `start`."""


STARTED = {
    name: name
    for name in (
        "kind", "payload", "payload_version", "attempt", "max_attempts", "crashes", "owner_id", "request_id",
        "traceparent", "run_at", "steps", "cursor", "batch_id",
    )
} | {name: f"CAST({name} AS text)" for name in ("payload", "steps", "cursor")}  # fmt: skip
"""The columns of a `StartedJob`, but for its last, and the SQL of each."""

_IS_LEASED = "kind = ANY(CAST(:leased AS text[]))"
_IS_MARKED = f"({_IS_LEASED} OR redeliveries >= {UNMARKED_REDELIVERIES})"

_START = text(f"""
    UPDATE jobs SET
        state = CASE WHEN {_IS_MARKED} THEN 'executing' ELSE 'completed' END,
        claim_at = CASE WHEN {_IS_MARKED} THEN now() + CAST(:lease AS interval) END,
        finished_at = CASE WHEN {_IS_MARKED} THEN NULL ELSE now() END,
        started_at = now(), attempt = least(attempt + 1, 32767), worker_id = :worker_id
    WHERE id = :id AND fence = :fence AND state = 'dispatched'
        AND NOT EXISTS (SELECT FROM job_cancellations WHERE job_id = :id)
    RETURNING {", ".join(STARTED.values())}, state = 'executing'
""").columns(  # noqa: S608  # made of constants
    # By position, so that SQLAlchemy caches how to read the row instead of working it out for each job.
    *map(column, STARTED), column("is_marked")
)  # fmt: skip

# With a cancellation request the job is cancelled instead of due again.
_FINISH = (
    text("""
    UPDATE jobs SET
        state = CASE WHEN is_cancelled THEN 'cancelled' ELSE :state END,
        claim_at = CASE WHEN NOT is_cancelled THEN now() + due_in END,
        finished_at = CASE WHEN is_cancelled OR due_in IS NULL THEN now() END,
        -- If the start was rolled back, so was its attempt.
        attempt = attempt + CAST(jobs.state = 'dispatched' AS integer) - CAST(NOT :costs_attempt AS integer),
        result = :result, progress = coalesce(:progress, progress)
    FROM (
        SELECT CAST(:due_in AS interval) AS due_in, CAST(:due_in AS interval) IS NOT NULL
            AND EXISTS (SELECT FROM job_cancellations WHERE job_id = :id) AS is_cancelled
    ) AS finish
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

# One row per attempt and error: a job that waits for a newer worker would add a row each minute.
_RECORD_ERROR = text("""
    INSERT INTO job_errors (id, job_id, attempt, error, trace)
    SELECT uuidv7(), :id, :attempt, :error, :trace WHERE NOT EXISTS (
        SELECT FROM job_errors WHERE job_id = :id AND attempt = :attempt AND error = :error
    )
""")

# NO KEY: the foreign key of a cancellation request must not wait for this lock. The timeouts end the transaction of a
# worker that freezes. Postgres does not restart a running timer, so the statement stops it first.
_LOCK = text("""
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

_ADVANCE = text("""
    UPDATE jobs SET claim_at = clock_timestamp() + CAST(:lease AS interval),
        steps = CASE WHEN :step IS NULL THEN steps ELSE coalesce(steps, '[]') || jsonb_build_array(:step) END,
        cursor = coalesce(:cursor, cursor)
    WHERE id = :id AND fence = :fence AND state = 'executing'
""").bindparams(bindparam("step", type_=JSONB(none_as_null=True)), bindparam("cursor", type_=JSONB(none_as_null=True)))


async def start(session: Session, delivery: Delivery, starter: Starter) -> StartedJob | None:
    """Start a delivered job, or return None if this delivery is stale or the job has a cancellation request.

    A job in lease mode becomes `executing` for the length of the lease: commit before its handler runs. A job in tx
    mode becomes `completed` at once, in the transaction that the handler's writes join: both commit or neither. Its row
    lock is held meanwhile, so that no relay claims it, and a second start waits and then finds nothing.
    After `UNMARKED_REDELIVERIES`, a job in tx mode becomes `executing` too, to tell a crash from a lost delivery: then
    commit, and call `finish` before the handler.
    """
    who = {"worker_id": starter.worker_id, "leased": starter.leased_kinds, "lease": starter.lease}
    row = await _execute(session, _START, {**_key(delivery), **who})
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
    """Move a job that this delivery holds to `state`, due again after `due_in`; without `due_in` the job has ended.

    Unless it `costs_attempt`, the attempt does not count.

    Returns the new state: CANCELLED instead of `state` if the job would run again and has a cancellation request; None
    if the delivery no longer holds the job, and nothing was changed.
    """
    about = {"state": state, "costs_attempt": costs_attempt, "due_in": due_in, "result": result, "progress": progress}
    row = await _execute(session, _FINISH, {**_key(delivery), **about})
    return None if row is None else JobState(row.state)


async def set_result(session: Session, delivery: Delivery, result: Any) -> None:  # Any: JSON
    """Store the result of a job whose completion is part of this transaction."""
    await session.execute(_SET_RESULT, {**_key(delivery), "result": result})


async def record_error(session: Session, delivery: Delivery, *, attempt: int, error: str, trace: str | None) -> None:
    """Store an error of an attempt; the same error of the same attempt is stored once."""
    await session.execute(_RECORD_ERROR, {"id": delivery.id, "attempt": attempt, "error": error, "trace": trace})


async def lock(session: Session, delivery: Delivery, *, idle: timedelta, total: timedelta) -> bool:
    """Lock the job for this transaction; return False if the delivery no longer holds it: then write nothing.

    Postgres ends the transaction when it has waited `idle` for the next statement, or has taken `total` from now on.
    The next statement then raises TransactionEnded.
    """
    milliseconds = {"idle": f"{idle / MILLISECOND:.0f}", "total": f"{total / MILLISECOND:.0f}"}
    parameters = {**_key(delivery), **milliseconds}
    if await _execute(session, _LOCK, parameters) is None:
        return False
    driver = session.sync_session.connection().connection.driver_connection  # it is open already, so this does not wait
    assert isinstance(driver, DriverConnection), "app_db.hosts makes these"
    driver.limit(idle=idle, total=total)  # guard: test_a_transaction_that_waits_too_long_is_a_failure_of_its_handler
    return True


async def set_progress(session: Session, delivery: Delivery, progress: Any) -> bool:  # Any: JSON
    """Store the progress of the job for its owner; return False if the delivery no longer holds it."""
    return await _execute(session, _PROGRESS, {**_key(delivery), "progress": progress}) is not None


async def extend(session: Session, delivery: Delivery, *, lease: timedelta) -> None:
    """Renew the lease of a job that this transaction has locked, because heartbeats skip locked rows."""
    await session.execute(_EXTEND, {**_key(delivery), "lease": lease})


async def advance(
    session: Session,
    delivery: Delivery,
    *,
    lease: timedelta,
    step: dict[str, Any] | None = None,  # Any: JSON
    cursor: Any = None,  # Any: JSON
) -> None:
    """Do as `extend` does, and store a committed step or the cursor: a later attempt starts with them."""
    await session.execute(_ADVANCE, {**_key(delivery), "lease": lease, "step": step, "cursor": cursor})


async def _execute(session: Session, statement: Executable, parameters: dict[str, Any]) -> AnyRow | None:
    """Return the row of a statement, without what a session does for the ORM (ADR-0058)."""
    return await session.run_sync(lambda sync: sync.connection().execute(statement, parameters).one_or_none())


def _key(delivery: Delivery) -> dict[str, Any]:
    return {"id": delivery.id, "fence": delivery.fence}
