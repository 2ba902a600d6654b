"""Keeping the table of login sessions small."""

import structlog

from app_db.jobs.catalog import PruneSessions
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.types import utcnow
from app_worker.context import JobContext
from app_worker.registry import handles

log = structlog.get_logger(__name__)


@handles(PruneSessions)
async def prune_sessions(job: JobContext, payload: PruneSessions) -> None:
    """Delete the sessions that have expired; nobody could use them any more."""
    log.info("sessions_pruned", count=await UserSessionRepository(job.session).delete_expired(utcnow()))
