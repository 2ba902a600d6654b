"""Keeping the tables of login sessions and one-time tokens small."""

import structlog

from app_db.jobs.catalog import PruneSessions
from app_db.repositories.one_time_tokens import OneTimeTokenRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.types import utcnow
from app_worker.context import JobContext
from app_worker.registry import handles

log = structlog.get_logger(__name__)


@handles(PruneSessions)
async def prune_sessions(job: JobContext, payload: PruneSessions) -> None:
    """Delete the sessions and the one-time tokens that have expired; nobody could use them any more."""
    now = utcnow()
    sessions = await UserSessionRepository(job.session).delete_expired(now)
    tokens = await OneTimeTokenRepository(job.session).delete_expired(now)
    log.info("sessions_pruned", count=sessions, one_time_tokens=tokens)
