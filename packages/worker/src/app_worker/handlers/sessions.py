"""Keeping the tables of login sessions and one-time tokens small."""

from datetime import timedelta

import structlog

from app_db.jobs.catalog import PruneSessions
from app_db.repositories.exports import ExportRepository
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_worker.context import JobContext
from app_worker.pruning import delete_all, note_done
from app_worker.registry import Mode, handles

log = structlog.get_logger(__name__)


@handles(PruneSessions, mode=Mode.LEASE, timeout=timedelta(minutes=10))
async def prune_sessions(job: JobContext, payload: PruneSessions) -> dict[str, int]:
    """Delete the sessions, one-time tokens and exports that have expired, in batches: nobody can use them."""
    sessions = await delete_all(job, lambda session: UserSessionRepository(session).delete_expired())
    tokens = await delete_all(job, lambda session: OneTimeTokenRepository(session).delete_expired())
    exports = await delete_all(job, lambda session: ExportRepository(session).delete_expired())
    await note_done(job, payload)
    log.info("sessions_pruned", count=sessions, one_time_tokens=tokens, export_parts=exports)
    return {"sessions": sessions, "one_time_tokens": tokens, "export_parts": exports}
