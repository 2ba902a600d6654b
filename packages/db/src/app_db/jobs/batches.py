"""Enqueueing of jobs that belong together: batches and chains (ADR-0079)."""

import json
from collections.abc import Iterable
from datetime import datetime
from itertools import batched, pairwise
from typing import Any, TypedDict, Unpack
from uuid import UUID

from sqlalchemy import text

from app_db.errors import Conflict
from app_db.jobs.encryption import stored_json
from app_db.jobs.ledger import Delivery
from app_db.jobs.outbox import Terms, enqueue_all, traced
from app_db.jobs.payload import JobPayload, limit_key
from app_db.session import Session
from app_db.types import new_id

AT_ONCE = 5000
"""How many jobs a statement inserts: between two of them the event loop runs others."""

_INSERT_BATCH = text("""
    INSERT INTO job_batches (id, owner_id, is_chain, total, then_id, then_job, on_failure_id, on_failure_job)
    VALUES (:id, :owner_id, :is_chain, :total, :then_id, CAST(:then_job AS jsonb), :on_failure_id,
        CAST(:on_failure_job AS jsonb))
""")

_INSERT_LINKS = text("""
    INSERT INTO job_links (after_id, batch_id, job)
    SELECT after_id, :batch_id, CAST(job AS jsonb)
    FROM unnest(CAST(:after_ids AS uuid[]), CAST(:jobs AS text[])) AS link (after_id, job)
""")

_NOTE_ADDED = text("INSERT INTO job_batch_changes (batch_id, added) VALUES (:batch_id, :added)")

# The lock: while the transaction of the caller goes on, the member has not ended, so its batch cannot end either.
_BATCH_OF_MEMBER = text("""
    SELECT batch_id FROM jobs
    WHERE id = :id AND fence = :fence AND state IN ('executing', 'completed') AND EXISTS (
        SELECT FROM job_batches WHERE job_batches.id = jobs.batch_id AND NOT is_chain AND ended_at IS NULL
    ) FOR NO KEY UPDATE
""")


class JobOptions(TypedDict, total=False):
    """What all jobs of one call share: the arguments of `enqueue` with the same names and defaults."""

    run_at: datetime | None
    queue: str
    priority: int
    max_attempts: int | None
    owner_id: UUID | None


class NotInBatch(Conflict):
    """The job is no running member of a batch, so it cannot add other jobs to it."""

    code = "job_not_in_batch"


async def enqueue_batch(
    session: Session,
    payloads: Iterable[JobPayload],
    *,
    then: JobPayload | None = None,
    on_failure: JobPayload | None = None,
    **options: Unpack[JobOptions],
) -> UUID:
    """Enqueue jobs that belong together, in the caller's transaction, and return the id of their batch.

    The jobs run in any order, many at once. A batch without jobs has completed at once. All must fit the memory of the
    caller: a hundred thousand jobs take about a second and 100 MB.

    Args:
        session: the batch joins its transaction.
        payloads: the jobs, of any kinds.
        then: a job that is enqueued once, when all have completed; those that failed may have been retried.
        on_failure: a job that is enqueued once, when all have ended and one of them was discarded or cancelled.
        options: see `enqueue`. All but `run_at` are for the last jobs too; the owner may see the batch.

    Raises:
        ValueError: before anything is sent, for a wrong argument or payload (`pydantic.ValidationError`).

    Example:
        async with database.unit_of_work() as session:
            jobs = [EndSessions(user_id=user.id) for user in (ada, bob)]
            batch_id = await enqueue_batch(session, jobs, then=CloseAccount(user_id=ada.id))
    """
    terms = _terms(options, new_id())
    jobs = {new_id(): payload for payload in payloads}
    await _insert_batch(session, terms, is_chain=False, total=len(jobs), then=then, on_failure=on_failure)
    if not jobs:
        await session.execute(_NOTE_ADDED, {"batch_id": terms.batch_id, "added": 0})
    for some in batched(jobs.items(), AT_ONCE, strict=False):
        await enqueue_all(session, dict(some), terms)
    assert terms.batch_id is not None
    return terms.batch_id


async def enqueue_chain(
    session: Session,
    *payloads: JobPayload,
    on_failure: JobPayload | None = None,
    **options: Unpack[JobOptions],
) -> UUID:
    """Enqueue jobs that run one after the other, in the caller's transaction, and return the id of their batch.

    Each job is enqueued by the transaction that completes the one before. If one is discarded or cancelled, the chain
    has ended, and those after it are never enqueued, unless that one is retried and completes.

    Args:
        session: the chain joins its transaction.
        payloads: the jobs in their order, of any kinds; at least one.
        on_failure: a job that is enqueued once, if one of the jobs is discarded or cancelled.
        options: see `enqueue`; `run_at` is for the first job. The owner may see the chain.

    Raises:
        ValueError: before anything is sent, for a wrong argument or payload, or no payload at all.

    Example:
        async with database.unit_of_work() as session:
            await enqueue_chain(session, EndSessions(user_id=ada.id), CloseAccount(user_id=ada.id))
    """
    if not payloads:
        raise ValueError("a chain has at least one job")
    terms = _terms(options, new_id())
    jobs = [(new_id(), payload) for payload in payloads]
    await _insert_batch(session, terms, is_chain=True, total=len(jobs), then=None, on_failure=on_failure)
    for some in batched(pairwise(jobs), AT_ONCE, strict=False):
        after_ids = [before_id for (before_id, _), _ in some]
        rows = [_row(session, terms, job_id, payload) for _, (job_id, payload) in some]
        await session.execute(_INSERT_LINKS, {"batch_id": terms.batch_id, "after_ids": after_ids, "jobs": rows})
    await enqueue_all(session, dict(jobs[:1]), terms)
    assert terms.batch_id is not None
    return terms.batch_id


async def add_to_batch(
    session: Session,
    member: Delivery,
    payloads: Iterable[JobPayload],
    **options: Unpack[JobOptions],
) -> list[UUID]:
    """Let a running member add jobs to its batch, and return their ids in the order of `payloads`.

    Args:
        session: a transaction of the member: `job.session`, or that of `job.transaction()`.
        member: `job.delivery`.
        payloads: the jobs, of any kinds.
        options: see `enqueue`.

    Raises:
        NotInBatch: `member` is not a running job of a batch. A chain has no members that are added.
        ValueError: before anything is sent, for a wrong argument or payload.

    Example:
        @handles(EndSessions)
        async def end_sessions(job: JobContext, payload: EndSessions) -> None:
            await add_to_batch(job.session, job.delivery, [CloseAccount(user_id=payload.user_id)])
    """
    jobs = {new_id(): payload for payload in payloads}
    batch_id = await session.scalar(_BATCH_OF_MEMBER, {"id": member.id, "fence": member.fence})
    if batch_id is None:
        raise NotInBatch  # guard: test_only_a_running_member_adds_jobs_to_its_batch
    terms = _terms(options, batch_id)
    await session.execute(_NOTE_ADDED, {"batch_id": batch_id, "added": len(jobs)})
    for some in batched(jobs.items(), AT_ONCE, strict=False):
        await enqueue_all(session, dict(some), terms)
    return list(jobs)


def _terms(options: JobOptions, batch_id: UUID) -> Terms:
    return Terms(
        options.get("run_at"), options.get("queue", "default"), options.get("priority", 2),
        options.get("max_attempts"), options.get("owner_id"), batch_id,
    )  # fmt: skip


async def _insert_batch(
    session: Session,
    terms: Terms,
    *,
    is_chain: bool,
    total: int,
    then: JobPayload | None,
    on_failure: JobPayload | None,
) -> None:
    row: dict[str, Any] = {"id": terms.batch_id, "owner_id": terms.owner_id, "is_chain": is_chain, "total": total}
    # The last jobs are none of its members: they run when these have ended.
    after = Terms(None, terms.queue, terms.priority, terms.max_attempts, terms.owner_id)
    for name, payload in (("then", then), ("on_failure", on_failure)):
        row[f"{name}_id"] = job_id = None if payload is None else new_id()
        row[f"{name}_job"] = None if payload is None or job_id is None else _row(session, after, job_id, payload)
    await session.execute(_INSERT_BATCH, row)


def _row(session: Session, terms: Terms, job_id: UUID, payload: JobPayload) -> str:
    """Return the columns of a job that is enqueued later, as JSON."""
    with traced(session, [payload.kind]) as traceparent:
        row = terms.parameters(session) | {
            "id": job_id, "kind": payload.kind, "payload_version": payload.version, "traceparent": traceparent,
            "limit_key": limit_key(payload, terms.owner_id),
        }  # fmt: skip
    del row["run_at"]
    return json.dumps(row | {"payload": json.loads(stored_json(session, job_id, payload))}, default=str)
