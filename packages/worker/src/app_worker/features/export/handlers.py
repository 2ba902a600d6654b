"""What a user may ask for about themselves."""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from app_db.features.export.payloads import AccountExport, PruneExports
from app_db.features.export.repository import ExportRepository
from app_db.models import Job, User, UserSession
from app_db.repositories.jobs import JobRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository
from app_worker.context import JobContext
from app_worker.pruning import delete_all, note_done
from app_worker.registry import Mode, handles

log = structlog.get_logger(__name__)

PAGE = 500
PART = 256 * 1024
"""Bytes of one piece of the file."""
SHOWN = 100
"""So many jobs are in the result too; the file has all."""


@dataclass
class _File:
    """The export as it grows: what was written stands in the table, what was not is here."""

    job: JobContext
    user_id: UUID
    number: int = 0
    rest: list[str] = field(default_factory=list)

    async def write(self, text: str, *, at_least: int = PART) -> None:
        """Add to the file; what has come together is kept as a piece of it."""
        self.rest.append(text)
        content = "".join(self.rest).encode()
        if len(content) >= at_least:
            async with self.job.transaction() as session:
                await ExportRepository(session).add(self.job.id, self.number, user_id=self.user_id, content=content)
            self.number, self.rest = self.number + 1, []


@handles(AccountExport, mode=Mode.LEASE, timeout=timedelta(minutes=5))
async def export_account(job: JobContext, payload: AccountExport) -> dict[str, Any]:
    """Collect all that we hold about a user (GDPR, article 15) in a file that the owner of the job fetches.

    The result of the job says where, and shows the beginning.
    """
    await job.set_progress({"done": 0, "of": 3, "step": "account"})
    async with job.transaction() as session:
        await ExportRepository(session).begin(job.id)
        user = await UserRepository(session).get(payload.user_id)
    if user is None:
        return {}
    await job.set_progress({"done": 1, "of": 3, "step": "sessions"})
    async with job.transaction() as session:
        sessions = await UserSessionRepository(session).of_user(payload.user_id)
    await job.set_progress({"done": 2, "of": 3, "step": "jobs"})
    begin = {"account": _account(user), "sessions": [_session(user_session) for user_session in sessions]}
    file = _File(job, payload.user_id)
    await file.write(json.dumps(begin)[:-1] + ', "jobs": [')
    shown, total = await _write_jobs(job, payload, file)
    await file.write("]}", at_least=0)
    await job.set_progress({"done": 3, "of": 3, "step": "done"})
    async with job.transaction() as session:
        await ExportRepository(session).keep_only(job.id, user_id=payload.user_id)
    return {**begin, "jobs": shown, "jobs_total": total, "download": f"/auth/me/exports/{job.id}"}


async def _write_jobs(job: JobContext, payload: AccountExport, file: _File) -> tuple[list[dict[str, str]], int]:
    """Write all jobs of the user, and return the newest of them and how many there are."""
    shown: list[dict[str, str]] = []
    total, after = 0, None
    while True:
        async with job.transaction() as session:
            page = await JobRepository(session).owned_by(payload.user_id, after=after, limit=PAGE)
        rows = [_job(other) for other in page.items]
        shown += rows[: SHOWN - len(shown)]
        if rows:
            await file.write((", " if total else "") + json.dumps(rows)[1:-1])
        total, after = total + len(rows), page.next
        if after is None:
            return shown, total


def _account(user: User) -> dict[str, str]:
    return {
        "user_id": str(user.id),
        "email": user.email,
        "role": user.role.value,
        "created_at": user.created_at.isoformat(),
    }


def _session(user_session: UserSession) -> dict[str, str]:
    return {
        "id": str(user_session.id),
        "created_at": user_session.created_at.isoformat(),
        "last_used_at": user_session.last_used_at.isoformat(),
    }


def _job(job: Job) -> dict[str, str]:
    return {"id": str(job.id), "kind": job.kind, "created_at": job.created_at.isoformat()}


@handles(PruneExports, mode=Mode.LEASE, timeout=timedelta(minutes=10))
async def prune_exports(job: JobContext, payload: PruneExports) -> dict[str, int]:
    """Delete the pieces of exports that have expired, in batches."""
    pruned = await delete_all(job, lambda session: ExportRepository(session).delete_expired())
    await note_done(job, payload)
    log.info("exports_pruned", count=pruned)
    return {"pruned": pruned}
