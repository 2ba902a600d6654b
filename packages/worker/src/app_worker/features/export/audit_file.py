"""The audit as a file of comma-separated values, written page by page, so that memory does not grow with it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app_db.clock import database_time
from app_db.features.export.payloads import AuditExport
from app_db.features.export.repository import ExportRepository
from app_db.models import AuditEvent, Role
from app_db.paging import Cursor, Slice
from app_db.repositories.audit import AuditFilter, AuditRepository
from app_db.repositories.users import UserRepository
from app_worker.context import Discard, JobContext
from app_worker.features.export.cells import line_of
from app_worker.features.export.files import ExportFile

PAGE: Final = 1000
"""Events that are read at once."""
COLUMNS: Final = (
    "happened_at", "event", "account", "account_id", "operator", "operator_id", "client_address", "session_id",
    "request_id", "details",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Span:
    """The time that the events cover, the newest first."""

    begin: datetime
    end: datetime

    def share_down_to(self, time: datetime) -> int:
        """Return how many per cent are done when the events down to this time are."""
        whole = (self.end - self.begin).total_seconds()
        return round(100 * min(1.0, max(0.0, (self.end - time).total_seconds() / whole))) if whole > 0 else 100


async def write_events(job: JobContext, payload: AuditExport) -> dict[str, Any]:  # Any: JSON
    """Write the file, and return the result of the job."""
    wanted = AuditFilter(**payload.model_dump(exclude={"operator_id"}))
    async with job.transaction() as session:
        await ExportRepository(session).begin(job.id)
        operator = await UserRepository(session).get(payload.operator_id)
        now = await database_time(session)
        begin = await AuditRepository(session).begins_at(wanted) or now
    if operator is None or operator.role is not Role.OPERATOR or operator.disabled_at is not None:
        raise Discard("who asked for it is no operator any more")  # guard: test_only_operators_get_the_audit
    span = _Span(begin, min(now, wanted.before or now))
    file, count = ExportFile(job, payload.operator_id), 0
    await file.write(line_of(COLUMNS))
    after: Cursor | None = None
    while True:
        page, emails = await _read(job, wanted, after=after)
        if page.items:
            await file.write("".join(_lines(page, emails)))
            count += len(page.items)
            done = span.share_down_to(page.items[-1].happened_at)
            await job.set_progress({"done": done, "of": 100, "events": count})
        after = page.next
        if after is None:
            break
    await file.write("", at_least=0)
    await job.set_progress({"done": 100, "of": 100, "events": count})
    async with job.transaction() as session:
        await ExportRepository(session).keep_only(job.id, user_id=payload.operator_id, kind=AuditExport.kind)
    return {"events": count, "download": f"/audit/exports/{job.id}"}


async def _read(
    job: JobContext, wanted: AuditFilter, *, after: Cursor | None
) -> tuple[Slice[AuditEvent], Mapping[UUID, str]]:
    """Return a page of events, and the addresses of its accounts."""
    async with job.transaction() as session:
        page = await AuditRepository(session).matching(wanted, after=after, limit=PAGE)
        accounts = {one for event in page.items for one in (event.user_id, event.actor_id) if one is not None}
        return page, await UserRepository(session).emails_of(accounts)


def _lines(page: Slice[AuditEvent], emails: Mapping[UUID, str]) -> Iterator[str]:
    def account(account_id: UUID | None) -> tuple[str, str]:
        return ("", "") if account_id is None else (emails.get(account_id, ""), str(account_id))

    for event in page.items:
        yield line_of([
            event.happened_at.isoformat(),
            event.event,
            *account(event.user_id),
            *account(event.actor_id),
            event.client_address or "",
            "" if event.session_id is None else str(event.session_id),
            event.request_id or "",
            json.dumps(event.details, ensure_ascii=False) if event.details else "",
        ])  # fmt: skip
