"""The SQL of a worker's heartbeat: it updates the row of the worker, and renews the leases of its jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, text, update

from app_db.jobs.ledger import Delivery
from app_db.models import JobWorker
from app_db.session import Session

# SKIP LOCKED: the handler of a job may hold its row lock, and waiting for it would let all other leases expire.
_BEAT = text("""
    WITH beat AS (
        INSERT INTO job_workers (id, host, pid, queues, concurrency, running, draining, holding, holds_until,
            version, loop_lag)
        VALUES (:worker_id, :host, :pid, :queues, :concurrency, :running, :draining,
            CAST(:held_ids AS uuid[]), now() + CAST(:lease AS interval), :version, :loop_lag)
        ON CONFLICT (id) DO UPDATE SET beat_at = now(), running = excluded.running, draining = excluded.draining,
            holding = excluded.holding, holds_until = excluded.holds_until,
            loop_lag = excluded.loop_lag
    ), ours AS (
        SELECT id, fence FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])) AS ours (id, fence)
    ), unlocked AS (
        SELECT jobs.id FROM jobs JOIN ours USING (id, fence) WHERE state = 'executing'
        FOR NO KEY UPDATE OF jobs SKIP LOCKED
    ), extended AS (
        UPDATE jobs SET claim_at = now() + CAST(:lease AS interval) FROM unlocked WHERE jobs.id = unlocked.id
    )
    SELECT id, fence, EXISTS (SELECT FROM job_cancellations WHERE job_id = jobs.id) AS is_cancelled
    FROM jobs JOIN ours USING (id, fence) WHERE state = 'executing'
""")


_HAS_SMTPUTF8 = select(func.bool_or(JobWorker.smtputf8)).where(JobWorker.beat_at > func.now() - timedelta(minutes=2))


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """The row of a worker process in `job_workers`."""

    id: UUID
    host: str
    pid: int
    queues: Sequence[str]
    concurrency: int
    version: str | None = None


@dataclass(frozen=True, slots=True)
class BeatResult:
    """The state of the deliveries that a heartbeat asked for."""

    held: set[Delivery]
    """The deliveries that this worker still holds; it has lost all others."""
    cancelled: set[Delivery]
    """The deliveries in `held` with a cancellation request."""


async def beat(
    session: Session,
    worker: WorkerRow,
    *,
    held_ids: Sequence[UUID],
    leased: Sequence[Delivery],
    running: int,
    draining: bool,
    lease: timedelta,
    loop_lag: float = 0,
) -> BeatResult:
    """Record that the worker is alive, and renew the leases of its jobs, in one statement.

    If a handler has locked the row of its job, the lease is not renewed: no relay can claim the job while the lock is
    held. After the lock is released, and until the outcome is recorded, the column `holding` keeps relays from it.

    Args:
        session: its transaction is joined.
        worker: the worker that beats.
        held_ids: all jobs that the worker runs or whose outcome it has yet to record.
        leased: the deliveries among them whose start is committed.
        running: how many deliveries it runs.
        draining: whether it starts no more.
        lease: the lease of `leased` from now on, and how long no relay claims a job of `held_ids`.
        loop_lag: for how many seconds its event loop was late lately, at most.
    """
    rows = await session.execute(
        _BEAT,
        {
            "worker_id": worker.id, "host": worker.host, "pid": worker.pid, "queues": list(worker.queues),
            "concurrency": worker.concurrency, "running": running, "draining": draining, "lease": lease,
            "held_ids": list(held_ids), "version": worker.version, "loop_lag": loop_lag,
            "ids": [delivery.id for delivery in leased], "fences": [delivery.fence for delivery in leased],
        },
    )  # fmt: skip
    found = {Delivery(row.id, row.fence): row.is_cancelled for row in rows}
    return BeatResult(set(found), {delivery for delivery, is_cancelled in found.items() if is_cancelled})


async def note_smtputf8(session: Session, worker_id: UUID, smtputf8: bool) -> bool:  # noqa: FBT001  # the value itself
    """Store whether the mail server of this worker accepts non-ASCII addresses; False if the worker has no row."""
    statement = update(JobWorker).where(JobWorker.id == worker_id).values(smtputf8=smtputf8)
    return (await session.scalars(statement.returning(JobWorker.id))).one_or_none() is not None


async def has_smtputf8(session: Session) -> bool | None:
    """Return whether any live worker can send mail to non-ASCII addresses; None if no worker knows yet."""
    found: bool | None = (await session.scalars(_HAS_SMTPUTF8)).one()
    return found


async def sign_off(session: Session, worker_id: UUID) -> None:
    """Delete the row of a worker that has stopped."""
    await session.execute(delete(JobWorker).where(JobWorker.id == worker_id))
