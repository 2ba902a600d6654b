"""The SQL of a worker's signs of life: its own row, and the leases of the jobs that it runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, text, update

from app_db.jobs.ledger import Delivery
from app_db.models import JobWorker
from app_db.session import Session

# A job whose handler is in a transaction has its row locked: waiting for it would cost all the others their leases.
_BEAT = text("""
    WITH beat AS (
        INSERT INTO job_workers (id, host, pid, queues, concurrency, running, draining, holding, holds_until)
        VALUES (:worker_id, :host, :pid, :queues, :concurrency, :running, :draining,
            CAST(:holding AS uuid[]), now() + CAST(:lease AS interval))
        ON CONFLICT (id) DO UPDATE SET beat_at = now(), running = excluded.running, draining = excluded.draining,
            holding = excluded.holding, holds_until = excluded.holds_until
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
    """How a worker process shows up in `job_workers`."""

    id: UUID
    host: str
    pid: int
    queues: Sequence[str]
    concurrency: int


@dataclass(frozen=True, slots=True)
class Held:
    """What a heartbeat learns about the jobs that it asked for: those it does not name are lost."""

    ours: set[Delivery]
    cancelled: set[Delivery]
    """Those of `ours` that somebody wants to end."""


async def beat(
    session: Session,
    worker: WorkerRow,
    *,
    holding: Sequence[UUID],
    held: Sequence[Delivery],
    running: int,
    draining: bool,
    lease: timedelta,
) -> Held:
    """Show that the worker lives, and renew the leases of the jobs that it runs, in one statement.

    One whose row is locked by its own handler is held, but not renewed: no relay takes it before the lock is gone. Nor
    then, for as long as the worker is known to be `holding` it: what becomes of it is written after the lock was lost.

    Args:
        session: whose transaction it is.
        worker: who beats.
        holding: all jobs that it has in hand.
        held: those of them whose start is on record.
        running: how many deliveries it runs.
        draining: whether it takes no more.
        lease: what held jobs get from now on, and for how long nobody takes what it is holding.
    """
    rows = await session.execute(
        _BEAT,
        {
            "worker_id": worker.id, "host": worker.host, "pid": worker.pid, "queues": list(worker.queues),
            "concurrency": worker.concurrency, "running": running, "draining": draining, "lease": lease,
            "holding": list(holding),
            "ids": [delivery.id for delivery in held], "fences": [delivery.fence for delivery in held],
        },
    )  # fmt: skip
    found = {Delivery(row.id, row.fence): row.is_cancelled for row in rows}
    return Held(set(found), {delivery for delivery, is_cancelled in found.items() if is_cancelled})


async def note_smtputf8(session: Session, worker_id: UUID, smtputf8: bool) -> bool:  # noqa: FBT001  # the value itself
    """Keep whether the mail server of this worker takes addresses beyond ASCII; False while it is not on the list."""
    statement = update(JobWorker).where(JobWorker.id == worker_id).values(smtputf8=smtputf8)
    return (await session.scalars(statement.returning(JobWorker.id))).one_or_none() is not None


async def has_smtputf8(session: Session) -> bool | None:
    """Whether a worker that lives can send mail to addresses beyond ASCII; None when none of them has said."""
    found: bool | None = (await session.scalars(_HAS_SMTPUTF8)).one()
    return found


async def sign_off(session: Session, worker_id: UUID) -> None:
    """Take the worker off the list: it has stopped."""
    await session.execute(delete(JobWorker).where(JobWorker.id == worker_id))
