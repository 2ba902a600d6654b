"""Requests for exports, and their sizes."""

from uuid import UUID

from app_api.features.export.errors import ExportNotFound
from app_auth.auth import Auth
from app_auth.principal import Principal
from app_db import Session
from app_db.features.export.payloads import AccountExport
from app_db.features.export.repository import ExportRepository
from app_db.jobs.outbox import enqueue
from app_db.jobs.unique import Unique

BEHIND_MAILS = 9
"""The priority of exports: all other due jobs of their queue go first."""


async def request_export(auth: Auth, session: Session, principal: Principal) -> UUID:
    """Enqueue a job that collects all data about the user and return its id, or the id of the user's open one.

    Raises:
        Throttled: when the user has asked for too many.
    """
    await auth.throttle.export(principal.user_id)  # guard: test_exports_are_throttled
    return await enqueue(
        session,
        AccountExport(user_id=principal.user_id),
        owner_id=principal.user_id,
        priority=BEHIND_MAILS,
        unique=Unique(),  # guard: test_a_user_has_one_export_at_a_time
    )


async def sizes_of(session: Session, principal: Principal, job_id: UUID) -> list[int]:
    """Return how many bytes each piece of the export has.

    Raises:
        ExportNotFound: the export does not exist, is not finished, or is somebody else's.
    """
    sizes = await ExportRepository(session).sizes_of(job_id, user_id=principal.user_id)
    if not sizes:
        raise ExportNotFound
    return sizes
