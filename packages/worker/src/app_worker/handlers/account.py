"""What a user may ask for about themselves."""

from datetime import timedelta
from typing import Any

from app_db.jobs.catalog import AccountExport
from app_db.models import Job, User, UserSession
from app_db.repositories.jobs import JobRepository
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository
from app_worker.context import JobContext
from app_worker.registry import Mode, handles

PAGE = 100


@handles(AccountExport, mode=Mode.LEASE, timeout=timedelta(minutes=5))
async def export_account(job: JobContext, payload: AccountExport) -> dict[str, Any]:
    """Collect all that we hold about a user (GDPR, article 15); the result of the job is the export."""
    await job.set_progress({"done": 0, "of": 3, "step": "account"})
    async with job.transaction() as session:
        user = await UserRepository(session).get(payload.user_id)
    if user is None:
        return {}
    await job.set_progress({"done": 1, "of": 3, "step": "sessions"})
    async with job.transaction() as session:
        sessions = await UserSessionRepository(session).of_user(payload.user_id)
    await job.set_progress({"done": 2, "of": 3, "step": "jobs"})
    jobs = await _all_jobs(job, payload)
    await job.set_progress({"done": 3, "of": 3, "step": "done"})
    return {
        "account": _account(user),
        "sessions": [_session(user_session) for user_session in sessions],
        "jobs": [_job(other) for other in jobs],
    }


async def _all_jobs(job: JobContext, payload: AccountExport) -> list[Job]:
    jobs: list[Job] = []
    after = None
    while True:
        async with job.transaction() as session:
            page = await JobRepository(session).owned_by(payload.user_id, after=after, limit=PAGE)
        jobs.extend(page.items)
        after = page.next
        if after is None:
            return jobs


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
