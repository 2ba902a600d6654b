"""The job that writes an export of an account."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from app_db.features.export.payloads import AccountExport, AuditExport, PruneExports
from app_db.features.export.repository import ExportRepository
from app_db.models import User
from app_db.paging import Cursor, Slice
from app_db.repositories.users import UserRepository
from app_worker.context import JobContext
from app_worker.features.export.audit_file import write_events
from app_worker.features.export.files import ExportFile
from app_worker.features.export.parts import PARTS, Export, Part, Row
from app_worker.pruning import delete_all, note_done
from app_worker.registry import Mode, handles

log = structlog.get_logger(__name__)

PAGE = 500
"""Rows that a feature is asked for at once."""
SHOWN = 100
"""How many rows of each part the result shows too; the file has all."""
ROOM = 128 * 1024
"""Bytes of all rows in the result together: less than the limit of a result."""


@dataclass
class _Shown:
    """The beginning of each part, for the result of the job."""

    room: int = ROOM

    def take(self, rows: Sequence[Row], *, most: int) -> list[Row]:
        """Return as many of the rows as there is room for."""
        taken: list[Row] = []
        for row in rows[:most]:
            self.room -= len(json.dumps(row))
            if self.room < 0:
                break
            taken.append(row)
        return taken


@handles(AccountExport, mode=Mode.LEASE, timeout=timedelta(minutes=5))
async def export_account(job: JobContext, payload: AccountExport) -> dict[str, Any]:
    """Collect all that we hold about a user (GDPR, article 15) in a file that the owner of the job fetches.

    It asks each feature for its part. The result of the job has the path of the file, and the beginning of each part.
    """
    return await collect(job, payload.user_id, parts=PARTS)


async def collect(job: JobContext, user_id: UUID, *, parts: Mapping[str, Export]) -> dict[str, Any]:
    """Write the file of an export with these parts, and return the result of the job."""
    steps = len(parts) + 1
    await job.set_progress({"done": 0, "of": steps, "step": "account"})
    async with job.transaction() as session:
        await ExportRepository(session).begin(job.id)
        user = await UserRepository(session).get(user_id)
    if user is None:
        return {}
    file, shown = ExportFile(job, user_id), _Shown()
    result: dict[str, Any] = {"account": _account(user)}
    await file.write(json.dumps(result)[:-1])
    for done, (name, export) in enumerate(parts.items(), start=1):
        await job.set_progress({"done": done, "of": steps, "step": name})
        result |= await _write_part(file, shown, name=name, export=export)
    await file.write("}", at_least=0)
    await job.set_progress({"done": steps, "of": steps, "step": "done"})
    async with job.transaction() as session:
        await ExportRepository(session).keep_only(job.id, user_id=user_id, kind=AccountExport.kind)
    return {**result, "download": f"/auth/me/exports/{job.id}"}


async def _write_part(file: ExportFile, shown: _Shown, *, name: str, export: Export) -> dict[str, Any]:
    """Write the part of a feature, and return its entry in the result of the job."""
    part = await _read(file, export, after=None)
    await file.write(f", {json.dumps(name)}: ")
    if not isinstance(part, Slice):
        await file.write(json.dumps(part))
        if isinstance(part, Mapping):
            rows = shown.take([part], most=1)
            return {name: rows[0]} if rows else {}
        return {name: shown.take(part, most=len(part))}
    beginning: list[Row] = []
    total = 0
    await file.write("[")
    while True:
        if part.items:
            await file.write((", " if total else "") + json.dumps([*part.items])[1:-1])
        beginning += shown.take(part.items, most=SHOWN - len(beginning))
        total += len(part.items)
        if part.next is None:
            break
        part = await _read(file, export, after=part.next)
        assert isinstance(part, Slice), "a page follows a page"
    await file.write("]")
    return {name: beginning, f"{name}_total": total}


async def _read(file: ExportFile, export: Export, *, after: Cursor | None) -> Part:
    """Ask a feature for a page, in a transaction that ends before the page is written."""
    async with file.job.transaction() as session:
        return await export(session, file.user_id, after=after, limit=PAGE)


def _account(user: User) -> dict[str, str]:
    return {
        "user_id": str(user.id),
        "email": user.email,
        "role": user.role.value,
        "created_at": user.created_at.isoformat(),
    }


@handles(AuditExport, mode=Mode.LEASE, timeout=timedelta(hours=1))
async def export_audit(job: JobContext, payload: AuditExport) -> dict[str, Any]:
    """Write the events that match into a file, which the operator who has asked for it fetches."""
    return await write_events(job, payload)


@handles(PruneExports, mode=Mode.LEASE, timeout=timedelta(minutes=10))
async def prune_exports(job: JobContext, payload: PruneExports) -> dict[str, int]:
    """Delete the pieces of exports that have expired, in batches."""
    pruned = await delete_all(job, lambda session: ExportRepository(session).delete_expired())
    await note_done(job, payload)
    log.info("exports_pruned", count=pruned)
    return {"pruned": pruned}
