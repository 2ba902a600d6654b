"""Requests for exports, and their sizes."""

import json
from dataclasses import asdict
from uuid import UUID

from app_api.features.export.errors import ExportNotFound, ExportUnderWay
from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.client import NOBODY, Client
from app_auth.machines import traces_of
from app_auth.permissions import require_operator
from app_auth.principal import Caller, Principal
from app_db import Session
from app_db.features.export.payloads import AccountExport, AuditExport
from app_db.features.export.repository import ExportRepository
from app_db.jobs.filters import JobFilter
from app_db.jobs.outbox import enqueue
from app_db.jobs.unique import Unique
from app_db.models import OPEN_STATES
from app_db.repositories.audit import AuditFilter
from app_db.repositories.jobs import JobRepository

BEHIND_MAILS = 9
"""The priority of exports: all other due jobs of their queue go first."""


async def request_export(auth: Auth, session: Session, caller: Caller, *, client: Client = NOBODY) -> UUID:
    """Enqueue a job that collects all data about the user and return its id, or the id of the user's open one.

    The audit says who asked: a person or a key.

    Raises:
        Throttled: when the user has asked for too many.
    """
    user_id = caller.user_id
    await auth.throttle.export(user_id)  # guard: test_exports_are_throttled
    audit(session, Event.EXPORT_REQUESTED, client=client, user_id=user_id, **traces_of(caller))
    return await enqueue(
        session,
        AccountExport(user_id=user_id),
        owner_id=user_id,
        priority=BEHIND_MAILS,
        unique=Unique(),  # guard: test_a_user_has_one_export_at_a_time
    )


async def request_audit_export(
    auth: Auth, session: Session, operator: Principal, wanted: AuditFilter, *, client: Client
) -> UUID:
    """Enqueue a job that writes the events that match into a file for the operator; the audit says who asked for what.

    Raises:
        OperatorRequired: the audit is for operators.
        Throttled: when the operator has asked for too many.
        ExportUnderWay: the operator has an open one, which may be of other events.
    """
    require_operator(operator)
    mine = JobFilter(owner_id=operator.user_id, kind=AuditExport.kind)
    newest = await JobRepository(session).matching(mine, after=None, limit=1)
    if any(job.state in OPEN_STATES for job in newest.items):
        raise ExportUnderWay  # guard: test_an_operator_has_one_export_of_the_audit_at_a_time
    await auth.throttle.export(operator.user_id)
    details = {name: str(value) for name, value in asdict(wanted).items() if value is not None and name != "user_id"}
    audit(
        session, Event.AUDIT_EXPORTED, client=client, user_id=wanted.user_id, actor_id=operator.user_id,
        session_id=operator.session_id, filter=json.dumps(details),
    )  # fmt: skip  # guard: test_an_export_of_the_audit_is_a_row_of_it
    payload = AuditExport(operator_id=operator.user_id, **asdict(wanted))
    one_each = Unique(by=("operator_id",))
    return await enqueue(session, payload, owner_id=operator.user_id, priority=BEHIND_MAILS, unique=one_each)


async def sizes_of(session: Session, caller: Caller, job_id: UUID, *, kind: str) -> list[int]:
    """Return how many bytes each piece of the export by a job of this kind has.

    Raises:
        ExportNotFound: the export does not exist, is not finished, is of another kind, or is somebody else's.
    """
    sizes = await ExportRepository(session).sizes_of(job_id, user_id=caller.user_id, kind=kind)
    if not sizes:
        raise ExportNotFound
    return sizes
