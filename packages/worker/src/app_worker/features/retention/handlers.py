"""Deletes expired rows in batches, each in its own transaction."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog

from app_auth.audit import Event, audit
from app_auth.client import NOBODY
from app_db.features.accounts.payloads import AccountErasure
from app_db.features.retention.payloads import KeepAuditMonths, PruneAccounts, PruneJobs, PruneSessions
from app_db.features.retention.settings import RetentionSettings
from app_db.jobs.batch_ends import prune_batches
from app_db.jobs.outbox import enqueue_many
from app_db.jobs.retention import forget_workers, prune
from app_db.repositories.audit_months import AuditMonthRepository
from app_db.repositories.expiry import BATCH, delete_expired_of, pruned_tables
from app_db.repositories.idempotency import IdempotencyRepository
from app_db.repositories.unverified import UnverifiedAccounts
from app_db.repositories.user_sessions import UserSessionRepository
from app_worker.context import JobContext
from app_worker.pruning import delete_all, note_done
from app_worker.registry import Mode, handles

log = structlog.get_logger(__name__)


@handles(PruneSessions, mode=Mode.LEASE, timeout=timedelta(minutes=10))
async def prune_sessions(job: JobContext, payload: PruneSessions) -> dict[str, int]:
    """Delete expired sessions, kept answers and what is left of mailed links, of features too, in batches."""
    sessions = await delete_all(job, lambda session: UserSessionRepository(session).delete_expired())
    tokens = sum([await delete_all(job, partial(delete_expired_of, table=table)) for table in pruned_tables()])
    answers = await delete_all(job, lambda session: IdempotencyRepository(session).delete_expired())
    await note_done(job, payload)
    log.info("sessions_pruned", count=sessions, one_time_tokens=tokens, answers=answers)
    return {"sessions": sessions, "one_time_tokens": tokens, "answers": answers}


@handles(PruneJobs, mode=Mode.LEASE, timeout=timedelta(minutes=10))
async def prune_jobs(job: JobContext, payload: PruneJobs, settings: RetentionSettings) -> dict[str, int]:
    """Delete jobs that ended long ago, in batches with a transaction each; the result is the number of jobs.

    They are kept as the settings say, or for completed jobs `@handles(…, keep=…)`.
    """
    async with job.transaction() as session:
        await forget_workers(session)
    batches = await delete_all(job, partial(prune_batches, limit=BATCH))
    pruned = await delete_all(job, lambda session: prune(session, keep=settings.of_jobs, kinds=job.retention))
    await note_done(job, payload, applied=settings.applied(*settings.of_jobs))
    log.info("jobs_pruned", count=pruned, batches=batches)
    return {"pruned": pruned, "batches": batches}


@handles(KeepAuditMonths, mode=Mode.LEASE, timeout=timedelta(minutes=10))
async def keep_audit_months(
    job: JobContext, payload: KeepAuditMonths, settings: RetentionSettings
) -> dict[str, list[str]]:
    """Add the months of the audit that are missing, and drop those that are no longer kept: a transaction each.

    The statistics of all months together are collected once a day.
    """
    months: dict[str, list[str]] = {"added": [], "dropped": []}
    while month := await _in_months(job, lambda audit: audit.add_missing()):
        months["added"].append(month)
        await job.set_progress(months)
    keep = settings.audit
    while keep is not None and (
        month := await _in_months(job, lambda audit: audit.drop_ended(keep, after_export=settings.audit_after_export))
    ):
        months["dropped"].append(month)
        await job.set_progress(months)
    if keep is not None and (waiting := await _in_months(job, lambda audit: audit.ended(keep))):
        months["waiting"] = waiting
        log.warning("audit_months_wait_for_their_export", months=waiting)
    await _in_months(job, lambda audit: audit.analyze())
    await note_done(job, payload, applied=settings.applied("audit", "audit_after_export"))
    log.info("audit_months_kept", **months)
    return months


async def _in_months[T](job: JobContext, change: Callable[[AuditMonthRepository], Awaitable[T]]) -> T:
    async with job.transaction() as session:
        return await change(AuditMonthRepository(session))


@handles(PruneAccounts, mode=Mode.LEASE, timeout=timedelta(minutes=10))
async def prune_accounts(job: JobContext, payload: PruneAccounts, settings: RetentionSettings) -> dict[str, int]:
    """Delete accounts that never verified their address, in batches; each is audited, and its traces are erased."""
    pruned, after = 0, UUID(int=0)
    while settings.unverified is not None:
        async with job.transaction() as session:
            gone, last = await UnverifiedAccounts(session).delete_next(keep=settings.unverified, after=after)
            for user_id in gone:  # guard: test_accounts_that_never_verified_go_in_batches_and_on_record
                audit(session, Event.ACCOUNT_DELETED, client=NOBODY, user_id=user_id, because="never_verified")
            erasures = [AccountErasure(user_id=user_id) for user_id in gone]
            await enqueue_many(
                session, erasures
            )  # guard: test_accounts_that_never_verified_go_in_batches_and_on_record
        if last is None:
            break
        pruned, after = pruned + len(gone), last
        await job.set_progress({"pruned": pruned})
    await note_done(job, payload, applied=settings.applied("unverified"))
    log.info("accounts_pruned", count=pruned)
    return {"pruned": pruned}
